"""Messages to the brokers: durable on return, in order, in bounded time and memory.

aiokafka's idempotent producer retries for ever, and after one refused batch refuses all that
follow. So: an append waits for a bounded time; what it left behind keeps its room until it is
delivered, and meanwhile nothing more is taken; after any refusal the producer is made anew.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from backend.adapters.kafka_client import AWAY, KafkaSettings, translated
from backend.adapters.kafka_cluster import MAX_MESSAGE_BYTES, closed_within
from backend.ports.event_log import Headers, Message
from extauthz.core.errors import Busy, Invalid, Retryable

LINGER_MS: Final = 5
BATCH_BYTES: Final = 256 << 10  # smaller ones cost ten times the CPU
BATCHED: Final = 64  # messages for one partition from which a batch of their own is cheaper
STUCK_SECONDS: Final = 2.0  # what was given up and waits longer stops further appends
OVERHEAD_BYTES: Final = 1024  # room for what the format adds to a message

Delivery = asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """In a compacted topic: what had this key is removed."""

    key: bytes
    value: None = None
    headers: Headers = ()


class KafkaProducer:
    """Appends to one topic.

    Args:
        settings: of the cluster.
        topic: name of the topic.
        partitions: how many it has.
        max_waiting_bytes: messages that may wait for the brokers.
    """

    def __init__(
        self, settings: KafkaSettings, topic: str, partitions: int, max_waiting_bytes: int
    ) -> None:
        self._settings, self._topic, self._partitions = settings, topic, partitions
        self._max_waiting_bytes, self._waiting_bytes = max_waiting_bytes, 0
        self._left: dict[Delivery, float] = {}  # what appends gave up, and since when it waits
        self._in_order = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None
        self._is_broken = False
        self._closing: set[asyncio.Task[None]] = set()
        self._turns = count()

    async def start(self) -> None:
        """Raises: Retryable, Invalid."""
        producer = self._new()
        try:
            with translated("the event log cannot be written to"):
                async with asyncio.timeout(self._settings.timeout_seconds):
                    await producer.start()
        except BaseException:
            await self._close(producer)
            raise
        self._producer, self._is_broken = producer, False

    async def stop(self) -> None:
        self._retire()
        if self._closing:
            await asyncio.wait(self._closing)

    async def append(self, messages: Sequence[Message | Tombstone]) -> None:
        """Return once all of them are durable.

        Raises:
            Busy: too much waits for the brokers.
            Invalid: a message is too large.
            Retryable: the brokers are away.
        """
        if not messages:
            return
        size = sum(_size(message) for message in messages)
        if self._is_broken:
            self._retire()
        began = asyncio.get_running_loop().time()
        if self._left and began - next(iter(self._left.values())) > STUCK_SECONDS:
            raise Retryable(f"the event log does not take what waits already; {AWAY}")
        if self._waiting_bytes and self._waiting_bytes + size > self._max_waiting_bytes:
            raise Busy("too many events wait for the event log; send them again later")
        self._waiting_bytes += size
        deliveries: list[Delivery] = []
        producer = None
        try:
            with translated("the event log cannot be written to"):
                async with asyncio.timeout(self._settings.timeout_seconds):
                    async with self._in_order:
                        if self._producer is None:
                            await self.start()
                        producer = self._producer
                        await self._hand_over(producer, messages, deliveries)
                    await self._delivered(producer, deliveries)
        finally:
            self._leave(producer, deliveries, size, began)

    async def _hand_over(
        self,
        producer: AIOKafkaProducer,
        messages: Sequence[Message | Tombstone],
        deliveries: list[Delivery],
    ) -> None:
        by_partition: dict[int, list[Message | Tombstone]] = {}
        spread = next(self._turns) % self._partitions  # keyless ones of a call stay together
        for message in messages:
            partition = spread if message.key is None else self._partition(message.key)
            by_partition.setdefault(partition, []).append(message)
        for partition, its in by_partition.items():
            if len(its) < BATCHED:
                for each in its:
                    sending = producer.send(
                        self._topic, each.value, each.key, partition, headers=list(each.headers)
                    )
                    deliveries.append(await sending)
            else:
                await self._send_batches(producer, its, partition, deliveries)

    async def _send_batches(
        self,
        producer: AIOKafkaProducer,
        messages: Sequence[Message | Tombstone],
        partition: int,
        deliveries: list[Delivery],
    ) -> None:
        batch = producer.create_batch()
        for message in messages:
            its = {"key": message.key, "value": message.value, "headers": list(message.headers)}
            if batch.append(timestamp=None, **its) is None:  # it is full
                deliveries.append(
                    await producer.send_batch(batch, self._topic, partition=partition)
                )
                batch = producer.create_batch()
                batch.append(timestamp=None, **its)
        deliveries.append(await producer.send_batch(batch, self._topic, partition=partition))

    async def _delivered(self, producer: AIOKafkaProducer, deliveries: Sequence[Delivery]) -> None:
        await asyncio.wait(deliveries)
        failures = [error for each in deliveries if (error := each.exception())]
        if failures:
            self._is_broken |= producer is self._producer
            raise failures[0]

    def _leave(
        self, producer: AIOKafkaProducer, deliveries: Sequence[Delivery], size: int, began: float
    ) -> None:
        """Free the room of `size` bytes once all is delivered; aiokafka goes on trying."""
        pending = {each for each in deliveries if not each.done()}
        if not pending:
            self._waiting_bytes -= size

        def came_late(delivery: Delivery) -> None:
            del self._left[delivery]
            pending.discard(delivery)
            if not pending:
                self._waiting_bytes -= size
            failed = delivery.cancelled() or delivery.exception() is not None
            self._is_broken |= failed and producer is self._producer

        for each in tuple(pending):
            self._left[each] = began
            each.add_done_callback(came_late)

    def _retire(self) -> None:
        """Let another producer take over; this one is closed meanwhile."""
        producer, self._producer, self._is_broken = self._producer, None, False
        if producer is not None:
            closing = asyncio.create_task(self._close(producer))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _partition(self, key: bytes) -> int:
        return (_hash(key) & 0x7FFFFFFF) % self._partitions

    def _new(self) -> AIOKafkaProducer:
        compression = self._settings.compression
        return AIOKafkaProducer(
            **self._settings.connection(),
            enable_idempotence=True,
            acks="all",
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_MESSAGE_BYTES,
            compression_type=None if compression == "none" else compression,
        )

    async def _close(self, producer: AIOKafkaProducer) -> None:
        """Flush for a bounded time; what is not delivered then is dropped."""
        if not await closed_within(producer.stop(), self._settings.timeout_seconds):
            # stop() waits for the brokers for ever; its sender ends only when it is told.
            if (sender := producer._sender.sender_task) is not None:
                sender.cancel()
            producer._message_accumulator.fail_all(KafkaError("the producer was closed"))
            await closed_within(producer.client.close(), self._settings.timeout_seconds)


@lru_cache(maxsize=65_536)  # as many gateways; murmur2 is written in Python there
def _hash(key: bytes) -> int:
    hashed: int = murmur2(key)
    return hashed


def _size(message: Message | Tombstone) -> int:
    headers = sum(len(name) + len(value) for name, value in message.headers)
    size = len(message.value or b"") + len(message.key or b"") + headers
    if size > MAX_MESSAGE_BYTES - OVERHEAD_BYTES:
        raise Invalid("", f"an event has {size} bytes", "send at most 1 MiB an event")
    return size

"""One member of a Kafka consumer group, with our rules of ownership.

Eager: in a rebalance all partitions go and come again. aiokafka tells of arrivals while it
sends no heartbeats, so the owner hears of them in `fetch`, and they are paused until then.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from backend.adapters.kafka_beginnings import beginnings
from backend.adapters.kafka_client import KafkaSettings, translated
from backend.adapters.kafka_cluster import KafkaCluster, close_consumer
from backend.ports.event_log import Assignment, Ownership, Position, Record
from extauthz.core.errors import Conflict, Retryable

PARTITION_BYTES: Final = 4 << 20  # of one partition in one answer; it is held in memory
ANSWER_BYTES: Final = 32 << 20
SLICE_SECONDS: Final = 0.5  # how soon a waiting fetch sees partitions that came
HEARTBEATS: Final = 3  # in a session
REBALANCE_SECONDS: Final = 20.0  # for a running insert to end before its partitions go
NEVER_MS: Final = 7 * 86_400_000  # a member that waits for the store keeps its partitions

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Owned:
    """A partition that the owner knows of.

    Args:
        committed: the next offset.
    """

    topic_id: UUID
    committed: int


class KafkaConsumer:
    """A member of `group`."""

    def __init__(self, settings: KafkaSettings, cluster: KafkaCluster, group: str) -> None:
        self._settings, self._cluster, self._group = settings, cluster, group
        self._client: AIOKafkaConsumer | None = None
        self._ownership: Ownership | None = None
        self._owned: dict[TopicPartition, _Owned] = {}
        self._arrived: list[TopicPartition] | None = None  # the owner has not heard of them
        self._came = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None

    async def start(self, ownership: Ownership) -> None:
        self._ownership = ownership
        try:
            await self._join()
            await self._tell_arrivals()
        except BaseException:
            await self.stop()
            raise

    async def fetch(self, most: int, wait_seconds: float) -> Sequence[Record]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        while True:
            if self._client is None:
                await self._join()
            await self._tell_arrivals()
            left = max(0.0, deadline - loop.time())
            records = await self._poll(most, min(left, SLICE_SECONDS)) if most > 0 else []
            if records or loop.time() >= deadline:
                return records

    async def commit(self, positions: Sequence[Position]) -> None:
        offsets: dict[TopicPartition, int] = {}
        for each in positions:
            partition = TopicPartition(self._settings.topic, each.partition)
            owned = self._owned.get(partition)
            if owned is None or owned.topic_id != each.topic_id:
                raise _gone()
            if each.offset >= owned.committed:
                offsets[partition] = max(offsets.get(partition, 0), each.offset + 1)
        if not offsets:
            return
        await self._commit(offsets)
        for partition, offset in offsets.items():
            if partition in self._owned:
                self._owned[partition].committed = offset

    async def confirm(self) -> float:
        # A commit of what is committed: the broker refuses it to whom it no longer counts as a
        # member, and begins the session of a member anew.
        if not self._owned:
            raise _gone()
        await self._commit({partition: each.committed for partition, each in self._owned.items()})
        return self._settings.session_seconds

    async def _commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        noted = {
            partition: OffsetAndMetadata(offset, str(self._owned[partition].topic_id))
            for partition, offset in offsets.items()
        }
        try:
            with translated("what was read cannot be committed"):
                async with asyncio.timeout(self._settings.timeout_seconds):
                    await self._joined().commit(noted)
        except Retryable as error:
            if isinstance(error.__cause__, CommitFailedError | IllegalStateError):
                raise _gone() from error
            raise

    async def lag(self) -> int:
        owned = {partition: each.committed for partition, each in self._owned.items()}
        if not owned:
            return 0
        with translated("the end of the event log cannot be read"):
            async with asyncio.timeout(self._settings.timeout_seconds):
                ends = await self._joined().end_offsets(list(owned))
        return sum(max(0, end - owned[partition]) for partition, end in ends.items())

    async def stop(self) -> None:
        await self._revoke()
        await self._leave()

    async def _join(self) -> None:
        """Enter the group, and wait until it says which partitions are ours."""
        # The answer to a request to join comes when the others have let go.
        patience = self._settings.timeout_seconds + REBALANCE_SECONDS
        self._came.clear()
        self._client = client = AIOKafkaConsumer(
            **self._settings.connection() | {"request_timeout_ms": int(patience * 1000)},
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",  # where to begin is decided here, never silently
            max_partition_fetch_bytes=PARTITION_BYTES,
            fetch_max_bytes=ANSWER_BYTES,
            session_timeout_ms=int(self._settings.session_seconds * 1000),
            heartbeat_interval_ms=int(self._settings.session_seconds * 1000 / HEARTBEATS),
            rebalance_timeout_ms=int(REBALANCE_SECONDS * 1000),
            max_poll_interval_ms=NEVER_MS,
        )
        client.subscribe([self._settings.topic], listener=_Listener(self))
        try:
            with translated("the event log cannot be read"):
                async with asyncio.timeout(patience):
                    await client.start()
                    await self._came.wait()
        except BaseException:
            await self._leave()
            raise

    async def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await close_consumer(client, self._settings.timeout_seconds)

    def arrive(self, partitions: Iterable[TopicPartition]) -> None:
        """aiokafka says: these are ours now. Nothing of theirs is fetched before `_tell`."""
        self._arrived = sorted(partitions)
        self._joined().pause(*self._arrived)
        self._came.set()

    async def revoke(self) -> None:
        """aiokafka says: all partitions go once this returns."""
        try:
            await self._revoke()
        except Exception:  # aiokafka would log it in words of its own, and go on
            _log.exception("the owner of the partitions failed to let them go")

    async def _revoke(self) -> None:
        self._arrived = None
        if self._telling is not None:
            self._telling.cancel()
            with suppress(asyncio.CancelledError):
                await self._telling
        if self._owned and self._ownership is not None:
            await self._ownership.revoked()
            _log.info("partitions went", extra={"partitions": [p.partition for p in self._owned]})
        self._owned = {}

    async def _tell_arrivals(self) -> None:
        while self._arrived is not None:
            self._telling = telling = asyncio.create_task(self._tell(self._arrived))
            try:
                await telling
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise  # it is we who are to stop, not a rebalance
            finally:
                self._telling = None

    async def _tell(self, arrived: list[TopicPartition]) -> None:
        """Say to the owner which partitions came and where they begin, then let them flow."""
        settings, cluster = self._settings, self._cluster
        begin = await beginnings(self._joined(), settings, cluster, self._group, arrived)
        for partition, at in begin.items():
            self._owned[partition] = _Owned(at.topic_id, at.first)
            if self._ownership is not None:
                number = partition.partition
                await self._ownership.assigned(Assignment(at.topic_id, number, at.committed))
        client = self._joined()
        with translated("the event log cannot be read"):
            for partition, at in begin.items():
                client.seek(partition, at.first)
            client.resume(*arrived)
        self._arrived = None
        _log.info("partitions came", extra={"partitions": [each.partition for each in arrived]})

    async def _poll(self, most: int, wait_seconds: float) -> list[Record]:
        client = self._joined()
        try:
            with translated("the event log cannot be read"):
                # getmany waits for ever in a rebalance; records are taken only as it returns.
                async with asyncio.timeout(wait_seconds + SLICE_SECONDS):
                    taken = await client.getmany(
                        timeout_ms=int(wait_seconds * 1000), max_records=most
                    )
        except Retryable as error:
            if isinstance(error.__cause__, TimeoutError) or await self._begins_again(error):
                return []
            raise
        return [
            Record(
                Position(self._owned[partition].topic_id, partition.partition, each.offset),
                each.value if each.value is not None else b"",
                each.headers,
                each.timestamp / 1000,
                each.key,
            )
            for partition, its in taken.items()
            for each in its
        ]

    async def _begins_again(self, error: Retryable) -> bool:
        """Where the next offset does not exist, look where to begin; else join anew, later."""
        cause = error.__cause__
        if isinstance(cause, NoOffsetForPartitionError):
            return True  # from before the partition was told of
        await self._revoke()
        if isinstance(cause, OffsetOutOfRangeError) and self._client is not None:
            self.arrive(self._client.assignment())
            return True
        await self._leave()
        return False

    def _joined(self) -> AIOKafkaConsumer:
        if self._client is None:
            raise Retryable("this consumer is not in its group; it joins again")
        return self._client


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Any) -> None:
        await self._consumer.revoke()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._consumer.arrive(assigned)


def _gone() -> Conflict:
    return Conflict("the partitions went to another member; it reads the records again")

"""What is asked of the brokers beside records: topics, their ids, committed offsets."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import stamina
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    LeaderNotAvailableError,
    NotCoordinatorForGroupError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.commit import OffsetFetchRequest

from backend.adapters.kafka_client import KafkaSettings, translated
from backend.adapters.kafka_metadata import MetadataRequest
from extauthz.core.errors import Invalid, Retryable

MAX_MESSAGE_BYTES: Final = 2 << 20  # an envelope has 1 MiB; headers and stamps come on top
_A_TOPIC: Final = 2  # of Kafka's kinds of resources
_CONFIGURED: Final = ("cleanup.policy", "min.insync.replicas", "retention.ms")
_SETTLING: Final = stamina.AsyncRetryingCaller(
    attempts=None, timeout=None, wait_initial=0.05, wait_max=0.5
).on((LeaderNotAvailableError, GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError))


@dataclass(frozen=True, slots=True)
class Topic:
    """What the brokers say of one."""

    topic_id: UUID
    partitions: int
    replicas: int  # the fewest of a partition
    has_leaders: bool


@dataclass(frozen=True, slots=True)
class Committed:
    """What a group committed: the next offset, and the note it left with it."""

    offset: int
    note: str


class KafkaCluster:
    """One connection to the brokers for what is asked now and then.

    Every method raises Retryable when they are away, after at most the settings' timeout.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: AIOKafkaClient | None = None

    async def start(self) -> None:
        """Connect. Raises: Invalid (the brokers refuse us), Retryable."""
        self._client = client = AIOKafkaClient(**self._settings.connection())
        try:
            async with self._within("the event log cannot be reached"):
                await client.bootstrap()
        except Retryable as error:
            await self.stop()
            if isinstance(error.__cause__, KafkaConnectionError):
                await self._say_why()
            raise

    async def stop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def topic(self, name: str) -> Topic:
        """Raises: Retryable, also while there is no such topic."""
        async with self._within(f"topic `{name}` cannot be looked at"):
            found = await self._find(name)
            if found is None:
                raise UnknownTopicOrPartitionError(name)
            return found

    async def make_topic(self, name: str, partitions: int, config: dict[str, str]) -> Topic:
        """Make it unless it is there. Raises: Invalid: it cannot be made."""
        async with self._within(f"topic `{name}` cannot be made"):
            if await self._find(name) is None:
                await self._create(name, partitions, config)
            return await _SETTLING(self._settled, name)

    async def configuration(self, name: str) -> dict[str, str]:
        """What the brokers say of a topic; empty where they do not let us ask."""
        async with self._within(f"the configuration of topic `{name}` cannot be read"):
            client = self._connected()
            request = DescribeConfigsRequest([(_A_TOPIC, name, list(_CONFIGURED))])
            response = await client.send(client.get_random_node(), request)
        ((error_code, _, _, _, entries),) = response.resources
        if for_code(error_code) is TopicAuthorizationFailedError:
            return {}
        with translated(f"the configuration of topic `{name}` cannot be read"):
            _raise(error_code)
        return {key: value for key, value, *_ in entries if value is not None}

    async def committed(
        self, group: str, topic: str, partitions: Sequence[int]
    ) -> dict[int, Committed]:
        """By partition, where something was committed."""
        async with self._within(f"offsets of group `{group}` cannot be read"):
            return await _SETTLING(self._committed, group, topic, partitions)

    async def _committed(
        self, group: str, topic: str, partitions: Sequence[int]
    ) -> dict[int, Committed]:
        client = self._connected()
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
        request = OffsetFetchRequest(group, [(topic, list(partitions))])
        response = await client.send(node, request)
        found = {}
        for _, offsets in response.topics:
            for partition, offset, note, error_code in offsets:
                _raise(error_code)
                if offset >= 0:
                    found[partition] = Committed(offset, note)
        return found

    async def _find(self, name: str) -> Topic | None:
        client = self._connected()
        response = await client.send(client.get_random_node(), MetadataRequest(name))
        error_code, _, topic_id, _, partitions, *_ = response.topics[0]
        if for_code(error_code) is UnknownTopicOrPartitionError:
            return None
        _raise(error_code)
        return Topic(
            topic_id=topic_id,
            partitions=len(partitions),
            replicas=min((len(replicas) for *_, replicas, _, _, _ in partitions), default=0),
            has_leaders=all(leader >= 0 for _, _, leader, *_ in partitions),
        )

    async def _settled(self, name: str) -> Topic:
        found = await self._find(name)
        if found is None or not found.has_leaders:
            raise LeaderNotAvailableError(name)
        return found

    async def _create(self, name: str, partitions: int, config: dict[str, str]) -> None:
        client, settings = self._connected(), self._settings
        no_placement: list[object] = []
        asked = (name, partitions, settings.replication, no_placement, list(config.items()))
        request = CreateTopicsRequest([asked], int(settings.timeout_seconds * 1000), False)
        controller = client.cluster.controller  # any broker passes the request on
        node = controller.nodeId if controller else client.get_random_node()
        response = await client.send(node, request)
        ((_, error_code, *told),) = response.topic_errors
        error = for_code(error_code)
        if not error_code or error is TopicAlreadyExistsError:
            return
        if error.retriable:
            _raise(error_code)
        problem = f"`{name}` cannot be made ({(told and told[0]) or error.description})"
        mend = (
            f"make it by hand with {partitions} partitions, or set KAFKA_REPLICATION to what "
            f"the brokers can hold (now {settings.replication})"
        )
        raise Invalid("KAFKA_TOPIC", problem, mend)

    async def _say_why(self) -> None:
        """aiokafka only logs why it could not connect: ask one broker again to hear it."""
        host, port, _ = collect_hosts(list(self._settings.brokers))[0]
        timeout = int(self._settings.timeout_seconds * 1000)
        with translated("the event log cannot be reached"):
            connection = await create_conn(
                host, port, request_timeout_ms=timeout, **self._settings.security()
            )
        connection.close()

    def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            raise Retryable("the event log is not open; start it first")
        return self._client

    @asynccontextmanager
    async def _within(self, doing: str) -> AsyncIterator[None]:
        with translated(doing):
            async with asyncio.timeout(self._settings.timeout_seconds):
                yield


def _raise(error_code: int) -> None:
    if error_code:
        raise for_code(error_code)()


async def closed_within(closing: Coroutine[Any, Any, None], seconds: float) -> bool:
    """Await `closing` for so long; whether it ended well.

    A task of its own: aiokafka lets the cancellation of its tasks out, as if we were meant.
    """
    task = asyncio.create_task(closing)
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        task.cancel()
    return task.done() and not task.cancelled() and task.exception() is None


async def close_consumer(consumer: AIOKafkaConsumer, seconds: float) -> None:
    """Leave its group and close its connections, each for so long at most."""
    if not await closed_within(consumer.stop(), seconds):
        await closed_within(consumer._client.close(), seconds)  # stop() did not come to that

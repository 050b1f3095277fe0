"""EventLog on Kafka: one topic, and one of dead letters beside it."""

from collections.abc import Sequence
from typing import Final, TypeVar

from backend.adapters.kafka_client import KafkaSettings
from backend.adapters.kafka_cluster import MAX_MESSAGE_BYTES, KafkaCluster
from backend.adapters.kafka_consumer import KafkaConsumer
from backend.adapters.kafka_dead_letters import KafkaDeadLetters
from backend.adapters.kafka_producer import KafkaProducer
from backend.adapters.kafka_topic import check_topic
from backend.adapters.resent import resent
from backend.ports.event_log import DeadLetter, Message, Position, SetAside
from extauthz.core.errors import Invalid, Retryable

T = TypeVar("T")
MAX_WAITING_BYTES: Final = 64 << 20
LETTERS_WAITING_BYTES: Final = 256 << 20  # a batch of poison goes in one call


class KafkaLog:
    """One topic; its id is the broker's."""

    is_shared: Final = True

    def __init__(
        self, settings: KafkaSettings, *, max_waiting_bytes: int = MAX_WAITING_BYTES
    ) -> None:
        self._settings, self._max_waiting_bytes = settings, max_waiting_bytes
        self._cluster = KafkaCluster(settings)
        self._producer: KafkaProducer | None = None
        self._letters: KafkaDeadLetters | None = None
        self._letter_producer: KafkaProducer | None = None

    async def start(self) -> None:
        settings = self._settings
        try:
            await self._cluster.start()
            partitions = await self._make_topics()
            self._producer = KafkaProducer(
                settings, settings.topic, partitions, self._max_waiting_bytes
            )
            await self._producer.start()
        except BaseException:
            await self.stop()
            raise
        # It connects at the first letter: most processes never write one.
        self._letter_producer = KafkaProducer(
            settings, settings.dead_letter_topic, 1, LETTERS_WAITING_BYTES
        )
        self._letters = KafkaDeadLetters(settings, self._letter_producer)

    async def stop(self) -> None:
        for producer in (self._producer, self._letter_producer):
            if producer is not None:
                await producer.stop()
        self._producer = self._letter_producer = self._letters = None
        await self._cluster.stop()

    async def append(self, messages: Sequence[Message]) -> None:
        await _open(self._producer).append(messages)

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        await _open(self._letters).add(letters)

    async def dead_letters(self, limit: int, after: Position | None = None) -> Sequence[SetAside]:
        return await _open(self._letters).some(limit, after)

    async def dead_letter_at(self, position: Position) -> SetAside:
        return await _open(self._letters).one(position)

    async def retry(self, position: Position) -> None:
        letters = _open(self._letters)
        record = (await letters.one(position)).letter.record
        await self.append([resent(record)])
        await letters.remove(position)

    async def drop(self, position: Position) -> None:
        letters = _open(self._letters)
        await letters.one(position)
        await letters.remove(position)

    async def ping(self) -> None:
        if not (await self._cluster.topic(self._settings.topic)).has_leaders:
            raise Retryable("a partition of the event log has no leader; look at the brokers")

    def consumer(self, group: str) -> KafkaConsumer:
        return KafkaConsumer(self._settings, self._cluster, group)

    async def _make_topics(self) -> int:
        """Make what is missing; how many partitions the topic has."""
        settings, cluster = self._settings, self._cluster
        common = {
            "min.insync.replicas": str(max(1, settings.replication - 1)),
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
        }
        topic = await cluster.make_topic(
            settings.topic,
            settings.partitions,
            {**common, "retention.ms": str(int(settings.retention_seconds * 1000))},
        )
        await cluster.make_topic(
            settings.dead_letter_topic, 1, {**common, "cleanup.policy": "compact"}
        )
        if topic.partitions < settings.partitions:
            problem = f"is {settings.partitions}, and `{settings.topic}` has {topic.partitions}"
            mend = "add partitions to the topic, or set what it has"
            raise Invalid("KAFKA_PARTITIONS", problem, mend)
        check_topic(settings, topic, await cluster.configuration(settings.topic))
        return topic.partitions


def _open(part: T | None) -> T:
    if part is None:
        raise Retryable("the event log is not open; start it first")
    return part

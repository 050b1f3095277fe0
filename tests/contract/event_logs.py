"""The adapters of EventLog as places where a test's log lies."""

import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from backend.adapters.kafka_log import KafkaLog
from backend.adapters.sqlite_log import SqliteLog
from backend.ports.event_log import EventLog
from tests.tools.kafka_broker import KafkaBroker, settings_of

TIMEOUT_SECONDS = 30.0  # a busy machine is not away


class Place(Protocol):
    """Where one log lies, for as many openings as a test likes."""

    def log(self) -> EventLog:
        """It, not started; the same every time."""

    def divide(self, partitions: int) -> None:
        """Let it have so many partitions, where it can; before its first start."""

    async def remove(self) -> None:
        """Delete it, so that the next start makes another."""


class SqlitePlace:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.db"

    def log(self) -> EventLog:
        return SqliteLog(self._path, clock=time.time, retention_seconds=3600)

    def divide(self, partitions: int) -> None:
        """It has one."""

    async def remove(self) -> None:
        for path in self._path.parent.glob("log.db*"):
            path.unlink()


class KafkaPlace:
    """A topic of its own for each test."""

    def __init__(self, broker: KafkaBroker, **settings: Any) -> None:
        self.broker = broker
        self.settings = replace(
            settings_of(broker.address, f"events-{uuid.uuid4().hex}"),
            **{"partitions": 1, "timeout_seconds": TIMEOUT_SECONDS, **settings},
        )

    def log(self) -> EventLog:
        return KafkaLog(self.settings)

    def divide(self, partitions: int) -> None:
        self.settings = replace(self.settings, partitions=partitions)

    async def remove(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.address)
        await admin.start()
        await admin.delete_topics([self.settings.topic])
        await admin.close()

    async def take_at_most(self, size: int) -> None:
        """Let the topic refuse what is larger."""
        await self.configure({"max.message.bytes": str(size)})

    async def configure(self, to: dict[str, str]) -> None:
        """Set what the topic is told; the rest becomes the broker's default."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.address)
        await admin.start()
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, self.settings.topic, to)]
        )
        await admin.close()

    async def delete_before(self, offset: int) -> None:
        """Delete the records of the first partition that lie before `offset`."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.address)
        await admin.start()
        partition = TopicPartition(self.settings.topic, 0)
        await admin.delete_records({partition: RecordsToDelete(offset)})
        await admin.close()

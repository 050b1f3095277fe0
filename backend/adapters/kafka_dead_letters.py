"""Dead letters in a compacted topic of one partition: the key is the record's position.

A letter that is removed is a record without a value. Reading goes from the first record to
the last; what it holds in memory are positions, not letters.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from backend.adapters.kafka_client import KafkaSettings, translated
from backend.adapters.kafka_cluster import close_consumer
from backend.adapters.kafka_producer import KafkaProducer, Tombstone
from backend.ports.event_log import DeadLetter, Headers, Message, Position, Record, SetAside
from extauthz.core.errors import NotFound

WHY: Final = "mcp-sentinel-dead-letter-why"
KEY: Final = "mcp-sentinel-dead-letter-key"
APPENDED: Final = "mcp-sentinel-dead-letter-appended-at"
_OURS: Final = {WHY, KEY, APPENDED}
ANSWER_BYTES: Final = 8 << 20
SLICE_MS: Final = 500


@dataclass(frozen=True, slots=True)
class _Kept:
    """Where a letter lies in its topic, and since when it was set aside."""

    offset: int
    at: datetime


class KafkaDeadLetters:
    """Letters set aside; one connection for each reading."""

    def __init__(self, settings: KafkaSettings, producer: KafkaProducer) -> None:
        self._settings, self._producer = settings, producer
        self._partition = TopicPartition(settings.dead_letter_topic, 0)

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep them, durably. Raises: Busy, Retryable."""
        await self._producer.append([_message(letter) for letter in letters])

    async def remove(self, position: Position) -> None:
        """Raises: Busy, Retryable."""
        await self._producer.append([Tombstone(_name(position))])

    async def some(self, limit: int, after: Position | None) -> Sequence[SetAside]:
        """In the order in which they were set aside. Raises: Retryable."""
        async with self._reader() as reader:
            kept = await self._kept(reader)
            names = list(kept)
            if after is not None and _name(after) in kept:
                names = names[names.index(_name(after)) + 1 :]
            return [await self._read(reader, kept[name]) for name in names[:limit]]

    async def one(self, position: Position) -> SetAside:
        """Raises: NotFound, Retryable."""
        async with self._reader() as reader:
            kept = (await self._kept(reader)).get(_name(position))
            if kept is None:
                raise NotFound(f"no dead letter of `{position}`; list them")
            return await self._read(reader, kept)

    async def _kept(self, reader: AIOKafkaConsumer) -> dict[bytes, _Kept]:
        (end,) = (await reader.end_offsets([self._partition])).values()
        await reader.seek_to_beginning(self._partition)
        kept: dict[bytes, _Kept] = {}
        while await reader.position(self._partition) < end:
            for each in await self._some(reader):
                if each.value is None:
                    kept.pop(each.key, None)
                else:
                    first = kept.get(each.key)
                    kept[each.key] = _Kept(each.offset, first.at if first else _time(each))
        return kept

    async def _read(self, reader: AIOKafkaConsumer, kept: _Kept) -> SetAside:
        reader.seek(self._partition, kept.offset)
        while not (found := await self._some(reader, 1)):
            pass
        return SetAside(_letter(found[0]), kept.at)

    async def _some(self, reader: AIOKafkaConsumer, most: int | None = None) -> list[Any]:
        taken = await reader.getmany(timeout_ms=SLICE_MS, max_records=most)
        its: list[Any] = taken.get(self._partition, [])
        return its

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        timeout = self._settings.timeout_seconds
        reader = AIOKafkaConsumer(
            **self._settings.connection(),
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=ANSWER_BYTES,
        )
        reader.assign([self._partition])
        try:
            with translated("the dead letters cannot be read"):
                async with asyncio.timeout(timeout):
                    await reader.start()
                    yield reader
        finally:
            await close_consumer(reader, timeout)


def _message(letter: DeadLetter) -> Message:
    record = letter.record
    headers: Headers = (
        *record.headers,
        (WHY, letter.why.encode("utf-8", "replace")),
        (APPENDED, repr(record.appended_at).encode()),
    )
    if record.key is not None:
        headers = (*headers, (KEY, record.key))
    return Message(record.value, _name(record.position), headers)


def _letter(kept: Any) -> DeadLetter:
    ours = {name: value for name, value in kept.headers if name in _OURS}
    record = Record(
        Position.read(kept.key.decode()),
        kept.value,
        tuple((name, value) for name, value in kept.headers if name not in _OURS),
        float(ours.get(APPENDED, b"0")),
        ours.get(KEY),
    )
    return DeadLetter(record, ours.get(WHY, b"").decode("utf-8", "replace"))


def _time(kept: Any) -> datetime:
    return datetime.fromtimestamp(kept.timestamp / 1000, UTC)


def _name(position: Position) -> bytes:
    return str(position).encode()

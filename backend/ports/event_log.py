"""The event log: what ingest appends to, and the processor reads."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

import msgspec

from extauthz.core.errors import Invalid

Headers = tuple[tuple[str, bytes], ...]

POSITION_PATTERN: Final = (
    r"^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):([0-9]{1,9}):([0-9]{1,18})$"
)
_POSITION: Final = re.compile(POSITION_PATTERN)

# A record with this header, whatever its value, counts as resent; so does `"resent": true`.
RESENT_HEADER: Final = "mcp-sentinel-resent"


class Position(msgspec.Struct, frozen=True, gc=False):
    """Where a record lies; the topic's id tells a recreated topic from the old one.

    Its text, `<topic id>:<partition>:<offset>`, names a dead letter wherever one is named.

    This, Message and Record are structs, for one of each is made for every event.

    Args:
        topic_id: made with the topic, never used again.
        partition: number within the topic.
        offset: grows within the partition, with holes.
    """

    topic_id: UUID
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic_id}:{self.partition}:{self.offset}"

    @classmethod
    def read(cls, text: str) -> "Position":
        """The position of a text. Raises: Invalid."""
        written = _POSITION.fullmatch(text)
        if written is None:
            mend = "write it as `sentinel dlq list` shows it"
            raise Invalid("", f"`{text[:120]}` is no dead letter's id", mend)
        topic_id, partition, offset = written.groups()
        return cls(UUID(topic_id), int(partition), int(offset))


class Message(msgspec.Struct, frozen=True, gc=False):
    """What goes into the log: an envelope's bytes, untouched."""

    value: bytes
    key: bytes | None = None
    headers: Headers = ()


class Record(msgspec.Struct, frozen=True, gc=False):
    """What comes out of the log.

    Args:
        appended_at: when the log took it, seconds since the epoch; 0 where it is not known.
        key: of its message.
    """

    position: Position
    value: bytes
    headers: Headers = ()
    appended_at: float = 0.0
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that can never be stored, and why."""

    record: Record
    why: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """A dead letter as it is kept; its record's position is its name.

    Args:
        at: when it was set aside.
    """

    letter: DeadLetter
    at: datetime


@dataclass(frozen=True, slots=True)
class Assignment:
    """A partition that this consumer now owns.

    Args:
        committed: the offset that will be read first; 0 when none was committed.
    """

    topic_id: UUID
    partition: int
    committed: int


class Ownership(Protocol):
    """Hears which partitions come and go; the consumer awaits both calls."""

    async def assigned(self, assignment: Assignment) -> None:
        """Called before the first record of the partition is fetched.

        Cancelled when the partition goes meanwhile; `revoked` follows.
        """

    async def revoked(self) -> None:
        """Called before all partitions go; await the running insert here.

        No `fetch` returns a record of theirs afterwards, until they are assigned again.
        """


class Consumer(Protocol):
    """One member of a consumer group."""

    async def start(self, ownership: Ownership) -> None:
        """Join the group.

        Raises:
            Conflict: another process holds what only one may hold.
            Retryable: the log is away.
        """

    async def fetch(self, most: int, wait_seconds: float) -> Sequence[Record]:
        """Up to `most` next records in order; waits for the first; may be empty."""

    async def confirm(self) -> float:
        """Prove that the partitions are still this member's.

        A process that stood still for long may have lost them and not know it yet.

        Returns:
            Seconds, from the call on, in which nobody else can get them.

        Raises:
            Conflict: they went; whoever has them reads the records again.
            Retryable: the log is away.
        """

    async def commit(self, positions: Sequence[Position]) -> None:
        """Everything up to and including each position is done with.

        Raises:
            Conflict: the partitions went; whoever has them reads the records again.
            Retryable: the log is away.
        """

    async def lag(self) -> int:
        """How many records of the owned partitions are not committed yet."""

    async def stop(self) -> None:
        """Leave the group, after `revoked`."""


class EventLog(Protocol):
    """A durable, ordered log of envelopes."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes go on with what a consumer leaves unread when it stops."""

    async def start(self) -> None:
        """Open it. Raises: Retryable, Invalid (with the mend)."""

    async def append(self, messages: Sequence[Message]) -> None:
        """Return once all of them are durable; on an error none or all may be there.

        Appends become durable in the order of the calls.

        Raises:
            Busy: the log is full or too many appends wait.
            Retryable: the log is away.
        """

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Set records aside, durably; the same position twice is kept once."""

    async def dead_letters(self, limit: int, after: Position | None = None) -> Sequence[SetAside]:
        """The oldest ones set aside later than `after`; each lies there until it is removed."""

    async def dead_letter_at(self, position: Position) -> SetAside:
        """Raises: NotFound, Retryable."""

    async def retry(self, position: Position) -> None:
        """Append the record again, marked as resent, then remove the letter.

        Raises: NotFound, Busy, Retryable.
        """

    async def drop(self, position: Position) -> None:
        """Remove a letter for good. Raises: NotFound, Retryable."""

    async def ping(self) -> None:
        """Raises: Retryable when it cannot be used."""

    def consumer(self, group: str) -> Consumer:
        """A consumer, not started."""

    async def stop(self) -> None: ...

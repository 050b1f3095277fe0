"""The ports: what the components of the backend need from the outside world.

Components meet only here; adapters implement it; `wiring` chooses them by URL.
Every adapter translates its client's errors into `extauthz.core.errors`:
`Retryable` (it is away), `Busy` (it is full), `Invalid` (it refused the data).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

import msgspec

from backend.queries import (
    Count,
    CountedBy,
    Cursor,
    EventFilter,
    ExportForm,
    Page,
    Summary,
    Usage,
)
from extauthz.core.errors import Invalid, SentinelError
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer

Headers = tuple[tuple[str, bytes], ...]
EventKey = tuple[str, str]  # producer and event_id: nobody's event is another's copy

EVENT_TIMES_END: Final = 4_291_747_200  # 2106-01-01; the store's minutes end in 2106

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


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row: the envelope, the payload's members that are columns, and its position.

    A struct of the encoder's own, flat and named as the columns: what a row costs is
    most of what the processor adds to an insert.

    Args:
        event_time: aware; stored to the millisecond.
        event_id: a UUID; comes back in lower case, with dashes.
        payload: JSON text, as it came.
        declared_tool: `tool_name`, or empty where the server does not declare it.
        outcome_of: event_id of the `mcp.request` that an `mcp.response` belongs to.
        producer: authenticated principal that sent it.
        gateway_start: which start of the gateway numbered it; empty for foreign events.
        sequence: its number within that start, from 1; 0 for foreign events.
        resent: its producer may have sent it before.
        topic_id, log_partition, log_offset: its position.
    """

    event_time: datetime
    event_id: str
    source: str
    event_type: str
    payload: str
    topic_id: UUID
    log_partition: int
    log_offset: int
    producer: str = ""
    gateway: str = ""
    gateway_start: str = ""
    sequence: int = 0
    resent: bool = False
    request_id: str = ""
    trace_id: str = ""
    server: str = ""
    namespace: str = ""
    team_id: str = ""
    cluster: str = ""
    human_id: str = ""
    agent_id: str = ""
    session_id: str = ""
    decision: str = ""
    reason: str = ""
    tool_name: str = ""
    declared_tool: str = ""
    outcome_of: str = ""

    @property
    def position(self) -> Position:
        """Where its record lies in the log."""
        return Position(self.topic_id, self.log_partition, self.log_offset)


@dataclass(frozen=True, slots=True)
class GatewayRun:
    """What the store holds of one start of a gateway, as one producer sent it.

    Events without a number (no `gateway_start`, or sequence 0) make one run for each producer,
    server and namespace, with an empty `gateway_start`: `rows` and the times alone count there.

    Args:
        gateway, namespace, server: not empty where any of its events names it.
        first, last: least and greatest sequence.
        present: how many different sequences there are.
        rows: how many rows; more than `present` means duplicates.
        first_at, last_at: times of the earliest and the latest event.
        started: whether its `gateway.start` is among them.
        heartbeats: how many `gateway.heartbeat` are among them.
    """

    producer: str
    gateway: str
    gateway_start: str
    namespace: str
    server: str
    first: int
    last: int
    present: int
    rows: int
    first_at: datetime
    last_at: datetime
    started: bool
    heartbeats: int


@dataclass(frozen=True, slots=True)
class Hole:
    """A range of sequences, ends included, between two that are stored.

    No number of it is stored, whatever its time. It belongs to the time of the event behind
    it, so that nothing falls between two times that touch.

    Args:
        at: time of the event behind it.
    """

    producer: str
    gateway_start: str
    first: int
    last: int
    at: datetime


class Damaged(SentinelError):
    """The store on disk is not what it should be; a new start of the process mends it."""


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A step that brings the store's schema up to date.

    Args:
        name: of a migration, or of the setting that asks for it.
        statements: SQL.
    """

    name: str
    statements: tuple[str, ...]


class EventStore(Protocol):
    """The queryable store of events. Blocking: call it from a thread.

    All methods raise Retryable when the store is away.
    """

    def pending(self) -> Sequence[SchemaChange]:
        """What `migrate` would change, in order. Changes nothing. Raises: Invalid."""

    def migrate(self) -> None:
        """Bring the schema up to date; safe to call from several processes at once.

        Raises: Invalid: a migration was changed after it had been applied.
        """

    def ping(self) -> None:
        """Raises: Retryable when it cannot be used."""

    def last_offset(self, topic_id: UUID, partition: int) -> int:
        """The greatest offset of that partition that is stored; -1 when none is.

        It waits for the inserts, of whatever process, that run when it is called.
        """

    def present(self, topic_id: UUID, partition: int, first: int, last: int) -> frozenset[int]:
        """Offsets of that partition in [first, last] that are stored already.

        After an insert of this process failed, it waits until that one is over.
        """

    def insert(self, rows: Sequence[StoredEvent]) -> None:
        """Store rows; after an error any part of them may be there: ask `present`.

        It ends within a time limit. What a server still does then, or does for a process that
        died, `last_offset` and `present` wait for.

        Raises:
            Invalid: the store cannot take a row as it is.
            Damaged: it cannot go on.
        """

    def known_events(
        self, events: Sequence[EventKey], since: datetime, until: datetime
    ) -> frozenset[EventKey]:
        """Which of these are stored, among events of that time; spelt as they were asked."""

    def resent_events(self, topic_id: UUID, partition: int, since: datetime) -> frozenset[EventKey]:
        """Stored events that came marked as resent, from that partition and time on.

        Ids in the usual spelling, lower case with dashes.

        An original that arrives after its marked copy is told by them.
        """

    def duplicates(self, since: datetime) -> int:
        """Rows beyond the first of a producer's event_id; anything but 0 is a fault."""

    def gateway_runs(
        self, since: datetime, until: datetime, gateway_start: str = ""
    ) -> Sequence[GatewayRun]:
        """What the events of that time make, one run for each producer and gateway start.

        Args:
            gateway_start: this start alone; empty for all.
        """

    def holes(
        self, since: datetime, until: datetime, limit: int, gateway_start: str = ""
    ) -> Sequence[Hole]:
        """Missing sequences in front of events of that time, oldest start first.

        The first of those events is compared with the stored one before it, of whatever time.

        Args:
            gateway_start: of this start alone; empty for all.
        """

    def gaps(self, since: datetime) -> Sequence[StoredEvent]:
        """`audit.gap` events from that time on, in order; they may tell of earlier losses."""

    def starts(self, since: datetime) -> Sequence[StoredEvent]:
        """`gateway.start` events from that time on, in order; each tells how the one before ended.

        Their payload names it (`previous_gateway_start`, `previous_next_sequence`), where known.
        """

    def changes(self, at: datetime, server: str = "") -> Sequence[StoredEvent]:
        """Of each custom resource, the `governance.change` that tells its state at `at`.

        That is the last one until then, or else the first one after it.

        Args:
            server: objects alone that were ever about MCP servers of this name; empty for all.
        """

    def total(self, without_types: frozenset[str]) -> int:
        """How many events are stored."""

    # What the api asks. A query that runs over its time budget is cancelled in the store:
    # TooSlow. An `mcp.request` whose outcome came apart has it in its payload.

    def page(self, asked: EventFilter, limit: int, after: Cursor | None = None) -> Page:
        """The newest events that match, or those behind a cursor.

        Following `next` gives each event that was stored at the first call exactly once.

        Raises: TooSlow.
        """

    def event(self, event_id: str, within: frozenset[str] | None = None) -> StoredEvent:
        """One event.

        Args:
            within: namespaces that the caller is limited to; None for all.

        Raises: NotFound: also where it lies in another namespace.
        """

    def by_request(
        self, request_id: str, within: frozenset[str] | None = None
    ) -> Sequence[StoredEvent]:
        """The calls of one HTTP request, oldest first, at most 1,000; internal types left out."""

    def counts_by(self, field: CountedBy, within: frozenset[str] | None = None) -> Sequence[Count]:
        """How many events there are of each value, greatest first; internal types too."""

    def summary(self, within: frozenset[str] | None = None) -> Summary:
        """The store at a glance."""

    def usage(self, asked: EventFilter, limit: int) -> Usage:
        """Who used what.

        Fast where `since` is a midnight in UTC, `until` is None, and of the texts none but
        `namespace`, `team_id`, `server`, `decision` and `tool_name` are asked for; others
        read each event of the window. `tool_name` means declared tools.

        Args:
            limit: length of the lists of servers, actors, tools, teams and latencies.

        Raises: TooSlow.
        """

    def export(self, asked: EventFilter, form: ExportForm) -> Iterator[bytes]:
        """All events that match, newest first, in chunks of whole lines; constant memory.

        Errors come when a chunk is fetched; fetch the first one before the answer begins.

        Raises: TooSlow.
        """

    def close(self) -> None: ...


class AccessStore(Protocol):
    """The custom resources. Blocking: call it from a thread."""

    def servers(self, namespace: str = "") -> Sequence[MCPServer]:
        """Sorted by namespace and name; a blank namespace means all. Raises: Retryable."""

    def grants(self, namespace: str = "") -> Sequence[MCPAccessGrant]: ...

    def sessions(self, namespace: str = "") -> Sequence[MCPAgentSession]: ...

    def server(self, namespace: str, name: str) -> MCPServer:
        """Raises: NotFound, Retryable."""

    def grant(self, namespace: str, name: str) -> MCPAccessGrant: ...

    def session(self, namespace: str, name: str) -> MCPAgentSession: ...

    def ping(self) -> None:
        """Raises: Retryable when it cannot be read."""

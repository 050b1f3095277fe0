"""The ports: what the components of the backend need from the outside world.

Components meet only here; adapters implement it; `wiring` chooses them by URL.
Every adapter translates its client's errors into `extauthz.core.errors`:
`Retryable` (it is away), `Busy` (it is full), `Invalid` (it refused the data).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer

Headers = tuple[tuple[str, bytes], ...]

EVENT_TIMES_END: Final = 5_680_281_600  # 2150-01-01; the store's days end in 2149


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record lies; the topic's id tells a recreated topic from the old one.

    Args:
        topic_id: made with the topic, never used again.
        partition: number within the topic.
        offset: grows within the partition, with holes.
    """

    topic_id: UUID
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Message:
    """What goes into the log: an envelope's bytes, untouched."""

    value: bytes
    key: bytes | None = None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Record:
    """What comes out of the log."""

    position: Position
    value: bytes
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that can never be stored, and why."""

    record: Record
    why: str


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
        """Called before the first record of the partition is fetched."""

    async def revoked(self) -> None:
        """Called before all partitions go; await the running insert here."""


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

    async def commit(self, positions: Sequence[Position]) -> None:
        """Everything up to and including each position is done with."""

    async def lag(self) -> int:
        """How many records of the owned partitions are not committed yet."""

    async def stop(self) -> None:
        """Leave the group, after `revoked`."""


class EventLog(Protocol):
    """A durable, ordered log of envelopes."""

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

    async def ping(self) -> None:
        """Raises: Retryable when it cannot be used."""

    def consumer(self, group: str) -> Consumer:
        """A consumer, not started."""

    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One row: the envelope, the payload's members that are columns, and its position.

    Args:
        event_time: aware; stored to the millisecond.
        payload: JSON text, as it came.
        declared_tool: `tool_name`, or empty where the server does not declare it.
        outcome_of: event_id of the `mcp.request` that an `mcp.response` belongs to.
        producer: authenticated principal that sent it.
    """

    event_time: datetime
    event_id: str
    source: str
    event_type: str
    payload: str
    position: Position
    producer: str = ""
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


class EventStore(Protocol):
    """The queryable store of events. Blocking: call it from a thread.

    All methods raise Retryable when the store is away.
    """

    def migrate(self) -> None:
        """Bring the schema up to date; safe to call from several processes at once."""

    def ping(self) -> None:
        """Raises: Retryable when it cannot be used."""

    def present(self, topic_id: UUID, partition: int, from_offset: int) -> frozenset[int]:
        """Offsets of that partition, `from_offset` or later, that are stored already."""

    def insert(self, rows: Sequence[StoredEvent]) -> None:
        """Store rows; after an error any part of them may be there: ask `present`.

        Raises:
            Invalid: the store cannot take a row as it is.
        """

    def known_event_ids(
        self, event_ids: Sequence[str], since: datetime, until: datetime
    ) -> frozenset[str]:
        """Which of these ids are stored, among events of that time."""

    def recent(self, limit: int, without_types: frozenset[str]) -> Sequence[StoredEvent]:
        """The newest events, newest first."""

    def outcomes(self, event_ids: Sequence[str], since: datetime) -> Mapping[str, str]:
        """Payloads of `mcp.response` events, by the id of the call they belong to."""

    def total(self, without_types: frozenset[str]) -> int:
        """How many events are stored."""

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

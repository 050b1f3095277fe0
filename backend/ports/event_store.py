"""The event store: what the processor fills, and the api asks."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

import msgspec

from backend.gateway_runs import GatewayRun, Hole
from backend.ports.event_log import Position
from backend.queries import (
    Count,
    CountedBy,
    Cursor,
    EventFilter,
    ExportForm,
    GrantUses,
    Page,
    Summary,
    Usage,
)

EventKey = tuple[str, str]  # producer and event_id: nobody's event is another's copy

# Our own producers of `governance.change`: an outbox keeps these events, and no gateway
# numbers them.
CHANGE_RECORDERS: Final = frozenset({"directory-watch"})

EVENT_TIMES_END: Final = 4_291_747_200  # 2106-01-01; the store's minutes end in 2106


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One row: the envelope, the payload's members that are columns, and its position.

    A struct of the encoder's own, flat, named as the columns and written without their names:
    what a row costs is most of what the processor adds to an insert.

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

    def insert(self, rows: Sequence[StoredEvent], until: float = math.inf) -> None:
        """Store rows; after an error any part of them may be there: ask `present`.

        It ends within a time limit. What a server still does then, or does for a process that
        died, `last_offset` and `present` wait for.

        Args:
            until: seconds of `time.monotonic`; what reaches a server later, after this process
                stood still, is not begun. A store in this process does not look at it.

        Raises:
            Invalid: the store cannot take a row as it is.
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

    def by_id(self, event_id: str, within: frozenset[str] | None = None) -> Sequence[StoredEvent]:
        """The events of one id, at most 100: gateways' before others', then the oldest first.

        There are several where several producers sent one each. None for what is no UUID.

        Args:
            within: namespaces that the caller is limited to; None for all.
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

        Whole days (UTC) are fast, however many events there are, where of the texts none but
        `namespace`, `team_id`, `server`, `decision`, `tool_name`, `human_id` and `agent_id` are
        asked for; for others, and for what is left of the window at its ends, each event is
        read. `tool_name` means declared tools. Different humans, agents and sessions are counted
        exactly up to 65,536.

        Args:
            limit: length of the lists of servers, actors, tools, teams and latencies.

        Raises: TooSlow.
        """

    def grant_use(self, since: datetime) -> GrantUses:
        """Which grants decided calls, of which tools, from the midnight (UTC) before `since` on.

        Fast, however many events there are. Raises: TooSlow.
        """

    def export(self, asked: EventFilter, form: ExportForm) -> Iterator[bytes]:
        """All events that match, newest first, in chunks of whole lines; constant memory.

        Errors come when a chunk is fetched; fetch the first one before the answer begins.

        Raises: TooSlow.
        """

    def close(self) -> None: ...

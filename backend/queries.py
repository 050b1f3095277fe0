"""What the api asks the store, and what it gets: values of EventStore's query part."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from backend.ports.event_store import StoredEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events are asked for: those that match every field.

    Texts are compared exactly; an empty one asks nothing. Events of the type
    `mcp.response` are part of their calls: only `event_type="mcp.response"` finds them alone.

    Args:
        request_id: of the HTTP request; its calls may be several.
        since, until: event_time lies in [since, until); aware.
        within: namespaces that the caller is limited to; None for all and for events of none.
    """

    source: str = ""
    event_type: str = ""
    server: str = ""
    namespace: str = ""
    cluster: str = ""
    team_id: str = ""
    human_id: str = ""
    agent_id: str = ""
    session_id: str = ""
    decision: str = ""
    reason: str = ""
    tool_name: str = ""
    trace_id: str = ""
    request_id: str = ""
    producer: str = ""
    since: datetime | None = None
    until: datetime | None = None
    within: frozenset[str] | None = None


# Fields of EventFilter that are compared with a column of the same name.
FILTER_TEXTS: Final = tuple(f.name for f in fields(EventFilter) if f.type in (str, "str"))

# Columns that an event shows as members of its own, where they are not empty: behind its time,
# source and type, in the order that existing tools know.
EVENT_MEMBERS: Final = (
    *("trace_id", "server", "namespace", "team_id", "cluster", "human_id", "agent_id"),
    *("session_id", "decision", "tool_name", "event_id", "reason", "producer"),
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last event of a page; the next page begins behind it, whatever arrives meanwhile.

    Args:
        event_time: aware, to the millisecond.
        event_id: a UUID.
    """

    event_time: datetime
    event_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Events, newest first.

    Args:
        next: where the next page begins; None when this is the last one.
    """

    events: Sequence["StoredEvent"]
    next: Cursor | None


class ExportForm(StrEnum):
    """How an export is written."""

    NDJSON = "ndjson"  # an object a line, with the members of `/api/events`
    CSV = "csv"  # a header and a row an event; no cell can be taken for a formula


class CountedBy(StrEnum):
    """What events are counted by."""

    SOURCE = "source"
    EVENT_TYPE = "event_type"


@dataclass(frozen=True, slots=True)
class Count:
    """How many events have this value of a field."""

    value: str
    events: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The store at a glance; internal types count nowhere but for `latest`.

    Args:
        events: how many there are.
        active_servers: how many different ones (namespace and name) their events name.
        latest: the newest event; None when there is none.
    """

    events: int
    active_servers: int
    latest: "StoredEvent | None"


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of `latency_ms` over calls whose end is known, in milliseconds.

    They are right to 5 %.

    Args:
        completions: how many; where it is 0, so are the others.
    """

    completions: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """All events of the window.

    Args:
        unique_servers: by namespace and name.
    """

    events: int
    allowed: int
    denied: int
    unique_servers: int
    unique_humans: int
    unique_agents: int
    unique_sessions: int
    latency: Latency


@dataclass(frozen=True, slots=True)
class ServerUsage:
    """Events that name this server.

    Args:
        team_id: of its owner.
    """

    server: str
    namespace: str
    team_id: str
    events: int
    allowed: int
    denied: int
    unique_humans: int
    unique_agents: int
    last_seen: datetime
    latency: Latency


@dataclass(frozen=True, slots=True)
class ActorUsage:
    """Events of one human through one agent; either may be unknown."""

    human_id: str
    agent_id: str
    events: int
    unique_servers: int
    unique_tools: int
    denied: int
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class ToolUsage:
    """Calls of one declared tool by one actor; tools that no server declares are left out.

    Args:
        team_id: of the server's owner.
    """

    server: str
    tool_name: str
    human_id: str
    team_id: str
    agent_id: str
    events: int
    denied: int
    last_seen: datetime
    namespace: str


@dataclass(frozen=True, slots=True)
class TeamUsage:
    """Events of the servers of one team."""

    team_id: str
    events: int
    allowed: int
    denied: int
    unique_servers: int
    unique_humans: int
    unique_agents: int
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class ToolLatency:
    """How long calls of one declared tool of one server took."""

    server: str
    namespace: str
    tool_name: str
    latency: Latency


@dataclass(frozen=True, slots=True)
class Bucket:
    """One step of a series.

    Args:
        at: its beginning, UTC.
    """

    at: datetime
    events: int
    allowed: int
    denied: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Who used what in a window; internal types left out.

    Each list has its greatest first, by events, as many as were asked for.

    Args:
        decisions: by decision, all of them.
        series: oldest first, without empty steps.
        step_seconds: how long a step of the series is.
    """

    totals: UsageTotals
    servers: Sequence[ServerUsage]
    actors: Sequence[ActorUsage]
    tools: Sequence[ToolUsage]
    teams: Sequence[TeamUsage]
    latencies: Sequence[ToolLatency]
    decisions: Sequence[Count]
    series: Sequence[Bucket]
    step_seconds: int


@dataclass(frozen=True, slots=True)
class GrantUse:
    """Calls of one tool that one grant decided.

    Args:
        namespace, grant: of the grant that allowed, denied, or came furthest.
        tool_name: as it was called.
    """

    namespace: str
    grant: str
    tool_name: str
    allowed: int
    denied: int
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class GrantUses:
    """Which grants decided calls, as far as the store goes back.

    Args:
        stored_since: time of the earliest event that is stored, whatever its type; None where
            there is none.
    """

    uses: Sequence[GrantUse]
    stored_since: datetime | None

"""`/analytics/usage`: who used what in a window, how it was decided, and how long it took."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from flask import Response

from backend.api.answers import json_response
from backend.api.filters import DECISION, NAMESPACE, SERVER, TEAM, TOOL, reach
from backend.api.parameters import Given, Parameter, clamped, text
from backend.api.refusals import bad_parameter
from backend.api.routes import Answer, Call, Group, get
from backend.ports.event_store import EventStore, StoredEvent
from backend.queries import (
    ActorUsage,
    Count,
    EventFilter,
    ServerUsage,
    TeamUsage,
    ToolLatency,
    ToolUsage,
    Usage,
    UsageTotals,
)
from extauthz.core.errors import Invalid
from extauthz.core.times import format_instant, parse_duration

WINDOW_DAYS: Final = clamped(
    "window_days", 30, 365, "How many days back to look, from midnight UTC"
)
WINDOW: Final[Parameter[float]] = Parameter(
    "window",
    lambda given, _now: _window(given),
    {"type": "string"},
    "The same as a duration such as `24h`, to the second; it comes before `window_days`.",
    0.0,
)
LIMIT: Final = clamped("limit", 10, 50, "How long lists are at most")
HUMAN: Final = text("human_id", "Human on whose behalf calls were made.")
AGENT: Final = text("agent_id", "Agent that made calls.")
# What mcp-runtime's own usage page calls two of them, too.
_DECISION: Final = text(DECISION.name, DECISION.help, aliases=("status", "outcome"))
_TOOL: Final = text(TOOL.name, TOOL.help, aliases=("tool",))
PARAMETERS: Final = (
    WINDOW_DAYS, WINDOW, LIMIT, NAMESPACE, TEAM, SERVER, _DECISION, _TOOL, HUMAN, AGENT,
)  # fmt: skip
MOST_SECONDS: Final = 365 * 86_400
UNDECIDED: Final = "unknown"  # what existing pages show for events without a decision


class DecisionUsage(msgspec.Struct, frozen=True):
    """Events by decision."""

    decision: str
    events: int


class TimePoint(msgspec.Struct, frozen=True):
    """One step of the series, named by its beginning."""

    bucket: datetime
    events: int
    allowed: int
    denied: int


class Recent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the newest events."""

    timestamp: str
    server: str = ""
    namespace: str = ""
    team_id: str = ""
    human_id: str = ""
    agent_id: str = ""
    session_id: str = ""
    decision: str = ""
    tool_name: str = ""
    event_type: str = ""
    event_id: str = ""


class UsageFilters(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was asked for."""

    namespaces: list[str] = []
    team_ids: list[str] = []
    server: str = ""
    decision: str = ""
    tool_name: str = ""
    human_id: str = ""
    agent_id: str = ""


class UsageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Who used what since `since`, internal types left out; latencies in milliseconds."""

    totals: UsageTotals
    servers: Sequence[ServerUsage]
    actors: Sequence[ActorUsage]
    tools: Sequence[ToolUsage]
    teams: Sequence[TeamUsage]
    latencies: Sequence[ToolLatency]
    decisions: list[DecisionUsage]
    series: list[TimePoint]
    step_seconds: int
    recent: list[Recent]
    window_days: int
    since: str
    filters: UsageFilters


def usage_group(store: EventStore) -> Group:
    """Usage; the scope `read`, limited to the caller's namespaces."""

    def everywhere(call: Call[None]) -> Response:
        return answered(call, reach(call.caller, call.given[NAMESPACE]))

    def own(call: Call[None]) -> Response:
        # Who has no namespace has used nothing, and is told so.
        return answered(call, reach(call.caller, call.given[NAMESPACE], may_be_none=True))

    def answered(call: Call[None], within: frozenset[str] | None) -> Response:
        asked, limit = _asked(call.given, within), call.given[LIMIT]
        found = store.usage(asked, limit)
        recent = store.page(asked, limit).events
        return json_response(_answer(call.given, asked, found, recent))

    answer = Answer(UsageAnswer)
    return Group(
        "usage",
        [
            get("/analytics/usage", everywhere, "Who used what.", answer, *PARAMETERS),
            get(
                "/user/analytics/usage",
                own,
                "The same, for users: of their own namespaces.",
                answer,
                *PARAMETERS,
            ),
        ],
    )


def _window(given: str) -> float:
    try:
        seconds = parse_duration(given, WINDOW.name)
    except (Invalid, OverflowError, ValueError):
        problem = f"`{given[:64]}` is not a duration"
        raise bad_parameter(WINDOW.name, problem, "write it like 24h or 1h30m") from None
    if not 1 <= seconds <= MOST_SECONDS:
        problem = f"`{given[:64]}` is not between 1s and 365 days"
        raise bad_parameter(WINDOW.name, problem, "write it like 24h")
    return seconds


def _asked(given: Given, within: frozenset[str] | None) -> EventFilter:
    return EventFilter(
        since=_since(given),
        namespace=given[NAMESPACE],
        team_id=given[TEAM],
        server=given[SERVER],
        decision=given[_DECISION],
        tool_name=given[_TOOL],
        human_id=given[HUMAN],
        agent_id=given[AGENT],
        within=within,
    )


def _since(given: Given) -> datetime:
    """Of days, the midnight before: aggregates answer it, however many events there are."""
    if given[WINDOW]:
        return given.now - timedelta(seconds=given[WINDOW])
    day = given.now.astimezone(UTC) - timedelta(days=given[WINDOW_DAYS])
    return day.replace(hour=0, minute=0, second=0, microsecond=0)


def _answer(
    given: Given, asked: EventFilter, found: Usage, recent: Sequence[StoredEvent]
) -> UsageAnswer:
    days = -(-int(given[WINDOW]) // 86_400) if given[WINDOW] else given[WINDOW_DAYS]
    return UsageAnswer(
        totals=found.totals,
        servers=found.servers,
        actors=found.actors,
        tools=found.tools,
        teams=found.teams,
        latencies=found.latencies,
        decisions=[_decision(each) for each in found.decisions],
        series=[TimePoint(b.at, b.events, b.allowed, b.denied) for b in found.series],
        step_seconds=found.step_seconds,
        recent=[_recent(each) for each in recent],
        window_days=days,
        since=format_instant(asked.since.timestamp()) if asked.since else "",
        filters=_filters(asked),
    )


def _decision(count: Count) -> DecisionUsage:
    return DecisionUsage(count.value or UNDECIDED, count.events)


def _recent(event: StoredEvent) -> Recent:
    names = Recent.__struct_fields__[1:]
    members: dict[str, Any] = {name: getattr(event, name) for name in names}
    return Recent(format_instant(event.event_time.timestamp()), **members)


def _filters(asked: EventFilter) -> UsageFilters:
    namespaces = [asked.namespace] if asked.namespace else sorted(asked.within or ())
    return UsageFilters(
        namespaces=namespaces,
        team_ids=[asked.team_id] if asked.team_id else [],
        server=asked.server,
        decision=asked.decision,
        tool_name=asked.tool_name,
        human_id=asked.human_id,
        agent_id=asked.agent_id,
    )

"""Who used what: sums of a window, from projections by days where it has whole days."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final

from backend.adapters import clickhouse_usage_sql as sql
from backend.adapters.clickhouse_filter import Conditions
from backend.adapters.clickhouse_readers import Readers, Together
from backend.adapters.clickhouse_rows import moment
from backend.adapters.clickhouse_usage_sql import Question
from backend.adapters.clickhouse_windows import DAY, HOUR, is_whole, parts_of
from backend.queries import (
    ActorUsage,
    Bucket,
    Count,
    EventFilter,
    Latency,
    ServerUsage,
    TeamUsage,
    ToolLatency,
    ToolUsage,
    Usage,
    UsageTotals,
)
from extauthz.core.events import INTERNAL_TYPES, EventType

AT_ONCE: Final = 2  # questions: others need connections, too
CANDIDATES: Final = 200  # actors that are looked at for tools, at first
_INTERNAL: Final = sorted(event_type.value for event_type in INTERNAL_TYPES)
# Of the gateways themselves; what is left tells how calls ended.
_OWN: Final = sorted(set(_INTERNAL) - {EventType.RESPONSE.value})
_OF_FEW: Final = ("human_id", "agent_id", "tool_name")
_FIRST_STEP_MS: Final = 0.1  # as in the schema
_STEP: Final = 1.1
# Of what `ACTORS` and `TOOLS` answer.
_NAMES: Final = ("humans", "agents")
_CALLS_OF_ACTOR: Final = 2
_CALLS_OF_TOOL: Final = 6
_Rows = Sequence[Sequence[Any]]


class UsageQueries:
    """EventStore's question about usage: several of the store's, for one answer."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    def usage(self, asked: EventFilter, limit: int) -> Usage:
        asking = _Asking(self._readers, asked)
        of_few = any(getattr(asked, name) for name in _OF_FEW)
        step = DAY if is_whole(asked, DAY) else HOUR
        with ThreadPoolExecutor(AT_ONCE - 1, "usage") as pool:  # most are too small for two cores
            summary = pool.submit(
                asking.rows, sql.SUMMARY_OF_FEW if of_few else sql.SUMMARY, most=limit
            )
            latencies = pool.submit(asking.rows, sql.LATENCIES, limit=limit)
            sessions = pool.submit(asking.rows, sql.SESSIONS)
            by_time = pool.submit(asking.rows, sql.series(step))
            actors = asking.rows(sql.ACTORS, most=max(limit + 1, CANDIDATES))
            named = [row for row in actors if row[0] or row[1]][:limit]
            used = pool.submit(asking.rows, sql.USED, **_names(named)) if named else None
            tools = _tools(asking, actors, limit)
        total, *owners = summary.result()
        ((unique_sessions,),) = sessions.result()
        return Usage(
            totals=_totals(total, unique_sessions),
            servers=[_server(row) for row in owners if row[0]],
            actors=_actors(named, used.result()) if used else [],
            tools=[_tool(row) for row in tools],
            teams=[_team(row) for row in owners if not row[0]],
            latencies=[_tool_latency(row) for row in latencies.result()],
            decisions=_decisions(by_time.result()),
            series=_series(by_time.result()),
            step_seconds=int(step.length.total_seconds()),
        )


class _Asking:
    """The same window and filters for every question."""

    def __init__(self, readers: Readers, asked: EventFilter) -> None:
        self._readers, self._asked = Together(readers), asked
        self._found = Conditions()
        self._found.texts(asked)
        self._found.within(asked.within)
        # What is not known takes part as a call's outcome does.
        self._timed = "1" if asked.decision else sql.NOT_DENIED

    def rows(self, question: Question, **given: Any) -> _Rows:
        parts, times = parts_of(self._asked, question.step)
        filters = self._found.sql.replace("tool_name =", "declared_tool =")
        asked = question.asked([f"{part} AND {filters}" for part in parts], timed=self._timed)
        types = {"internal": _INTERNAL, "own": _OWN}
        return self._readers.rows(asked, self._found.given | times | types | given)


def _names(actors: _Rows) -> dict[str, list[str]]:
    return {name: sorted({row[at] for row in actors}) for at, name in enumerate(_NAMES)}


def _tools(asking: _Asking, actors: _Rows, limit: int) -> _Rows:
    """No tool was called oftener by an actor than all that this one called.

    So those actors that made the most calls have the greatest ones, unless the least of
    what was found is less than what others may have: then all are looked at.
    """
    if len(actors) >= CANDIDATES:
        rows = asking.rows(sql.TOOLS_OF_SOME, limit=limit, **_names(actors))
        if len(rows) == limit and rows[-1][_CALLS_OF_TOOL] > actors[-1][_CALLS_OF_ACTOR]:
            return rows
    return asking.rows(sql.TOOLS, limit=limit)


def _totals(total: Sequence[Any], sessions: int) -> UsageTotals:
    _, _, _, _, _, events, allowed, denied, _, servers, humans, agents, *timed = total
    return UsageTotals(
        events=events,
        allowed=allowed,
        denied=denied,
        unique_servers=servers,
        unique_humans=humans,
        unique_agents=agents,
        unique_sessions=sessions,
        latency=_latency(*timed),
    )


def _server(row: Sequence[Any]) -> ServerUsage:
    _, _, server, namespace, team, events, allowed, denied, seen, _, humans, agents, *timed = row
    return ServerUsage(
        server=server,
        namespace=namespace,
        team_id=team,
        events=events,
        allowed=allowed,
        denied=denied,
        unique_humans=humans,
        unique_agents=agents,
        last_seen=moment(seen),
        latency=_latency(*timed),
    )


def _team(row: Sequence[Any]) -> TeamUsage:
    _, _, _, _, team, events, allowed, denied, seen, servers, humans, agents, *_ = row
    return TeamUsage(team, events, allowed, denied, servers, humans, agents, moment(seen))


def _actors(rows: _Rows, used: _Rows) -> list[ActorUsage]:
    counts = {(human, agent): (servers, tools) for human, agent, servers, tools in used}
    return [
        ActorUsage(human, agent, events, *counts[human, agent], denied, moment(seen))
        for human, agent, events, denied, seen in rows
    ]


def _tool(row: Sequence[Any]) -> ToolUsage:
    server, tool, human, team, agent, namespace, events, denied, seen = row
    return ToolUsage(server, tool, human, team, agent, events, denied, moment(seen), namespace)


def _tool_latency(row: Sequence[Any]) -> ToolLatency:
    server, namespace, tool, *timed = row
    return ToolLatency(server, namespace, tool, _latency(*timed))


def _latency(completions: int, steps: Sequence[int]) -> Latency:
    """The middle of each step."""
    if not completions:
        return Latency(0, 0.0, 0.0, 0.0)
    values = (round(_FIRST_STEP_MS * _STEP ** (step - 0.5), 3) for step in steps)
    return Latency(completions, *values)


def _decisions(by_time: _Rows) -> list[Count]:
    events: Counter[str] = Counter()
    for _, decision, counted in by_time:
        events[decision] += counted
    return [Count(*each) for each in sorted(events.items(), key=lambda it: (-it[1], it[0]))]


def _series(by_time: _Rows) -> list[Bucket]:
    steps: dict[int, Counter[str]] = defaultdict(Counter)
    for begin, decision, counted in by_time:
        steps[begin][decision] += counted
    return [
        Bucket(datetime.fromtimestamp(begin, UTC), of.total(), of["allow"], of["deny"])
        for begin, of in sorted(steps.items())
    ]

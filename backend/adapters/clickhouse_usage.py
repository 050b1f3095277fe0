"""Who used what: sums of a window, from projections by days where it has whole days."""

from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import Any, Final

from backend.adapters import clickhouse_usage_sql as sql
from backend.adapters.clickhouse_filter import Conditions
from backend.adapters.clickhouse_readers import Readers, Together
from backend.adapters.clickhouse_rows import moment
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
from extauthz.core.events import INTERNAL_TYPES

DAY_SECONDS: Final = 86_400
HOUR_SECONDS: Final = 3_600
SERVERS_LISTED: Final = 1_000  # at most, those of one name in several namespaces included
CANDIDATES: Final = 200  # actors on servers that are looked at for tools, at first

_FIRST_STEP_MS: Final = 0.1  # as in the schema
_STEP: Final = 1.1
# Columns of what `ACTORS` answers.
_SERVER_AT: Final = 3
_EVENTS_AT: Final = 8
_ACTOR_COLUMNS: Final = (("humans", 6), ("agents", 7))
_NO_LATENCY: Final = Latency(0, 0.0, 0.0, 0.0)
_Rows = Sequence[Sequence[Any]]


class UsageQueries:
    """EventStore's question about usage: several of the store's, for one answer."""

    def __init__(self, readers: Readers) -> None:
        self._readers = Together(readers)

    def usage(self, asked: EventFilter, limit: int) -> Usage:
        found = _conditions(asked)
        calls = Conditions([*found.parts], dict(found.given))
        internal = sorted(event_type.value for event_type in INTERNAL_TYPES)
        calls.add("event_type NOT IN {internal:Array(String)}", internal=internal)
        most = max(limit, CANDIDATES)
        groups = _Groups(self._rows(sql.ACTORS, calls, most=most))
        latencies = self._latencies(asked, found, groups.servers[:limit])
        step_seconds = DAY_SECONDS if _are_days(asked) else HOUR_SECONDS
        return Usage(
            totals=self._totals(groups, calls, latencies),
            servers=[_server(row, latencies) for row in groups.servers[:limit]],
            actors=self._actors(groups.actors[:limit], calls),
            tools=self._tools(groups.on_servers, calls, limit, most),
            teams=[_team(row) for row in groups.teams[:limit]],
            latencies=_tool_latencies(latencies, limit),
            decisions=[Count(*row) for row in self._rows(sql.DECISIONS, calls)],
            series=self._series(calls, step_seconds),
            step_seconds=step_seconds,
        )

    def _rows(self, question: str, found: Conditions, **given: Any) -> _Rows:
        return self._readers.rows(question.format(where=found.sql), found.given | given)

    def _totals(self, groups: "_Groups", calls: Conditions, latencies: _Rows) -> UsageTotals:
        ((sessions,),) = self._rows(sql.SESSIONS, calls)
        *_, events, allowed, denied, _, servers, humans, agents = groups.total
        return UsageTotals(
            events=events,
            allowed=allowed,
            denied=denied,
            unique_servers=servers,
            unique_humans=humans,
            unique_agents=agents,
            unique_sessions=sessions,
            latency=next((_latency(row) for row in latencies if not row[0]), _NO_LATENCY),
        )

    def _actors(self, rows: _Rows, calls: Conditions) -> list[ActorUsage]:
        given = {name: sorted({row[at] for row in rows}) for name, at in _ACTOR_COLUMNS}
        counted = self._rows(sql.TOOLS_OF_ACTORS, calls, **given) if rows else []
        tools = {(human, agent): count for human, agent, count in counted}
        return [
            ActorUsage(human, agent, n, servers, tools.get((human, agent), 0), denied, moment(seen))
            for *_, human, agent, n, _, denied, seen, servers, _, _ in rows
        ]

    def _tools(
        self, on_servers: _Rows, calls: Conditions, limit: int, most: int
    ) -> list[ToolUsage]:
        """No tool of an actor on a server was called oftener than all of them together.

        So those actors that made the most calls have the greatest ones, unless the least of
        what was found is less than what others may have: then all are looked at.
        """
        given: dict[str, Any] = {"limit": limit}
        if len(on_servers) == most:
            columns = (*_ACTOR_COLUMNS, ("servers", _SERVER_AT))
            among = {name: sorted({row[at] for row in on_servers}) for name, at in columns}
            question = sql.TOOLS.format(where=calls.sql, among=sql.AMONG)
            rows = self._readers.rows(question, calls.given | given | among)
            if len(rows) == limit and rows[-1][5] > on_servers[-1][_EVENTS_AT]:
                return [_tool(row) for row in rows]
        question = sql.TOOLS.format(where=calls.sql, among="")
        return [_tool(row) for row in self._readers.rows(question, calls.given | given)]

    def _series(self, calls: Conditions, step_seconds: int) -> list[Bucket]:
        step = "toDate" if step_seconds == DAY_SECONDS else "toStartOfHour"
        question = sql.SERIES.format(where=calls.sql, step=step)
        rows = self._readers.rows(question, calls.given)
        return [Bucket(datetime.fromtimestamp(at, UTC), *counts) for at, *counts in rows]

    def _latencies(self, asked: EventFilter, found: Conditions, servers: _Rows) -> _Rows:
        known = Conditions([*found.parts], dict(found.given))
        if not asked.decision:  # a call that was denied took no time at its server
            known.add("decision != 'deny'")
        names = sorted({row[_SERVER_AT] for row in servers})
        return self._rows(sql.LATENCIES, known, servers=names, most=SERVERS_LISTED)


class _Groups:
    """What `ACTORS` answers, by what it is grouped by."""

    def __init__(self, rows: _Rows) -> None:
        by: dict[tuple[bool, bool, bool], list[Sequence[Any]]] = {}
        for row in rows:
            by.setdefault((bool(row[0]), bool(row[1]), bool(row[2])), []).append(row)
        (self.total,) = by[False, False, False]
        self.servers = [row for row in by.get((True, True, False), []) if row[_SERVER_AT]]
        self.teams = [row for row in by.get((False, True, False), []) if row[5]]
        self.actors = [row for row in by.get((False, False, True), []) if row[6] or row[7]]
        self.on_servers = by.get((True, True, True), [])


def _conditions(asked: EventFilter) -> Conditions:
    found = Conditions()
    if _are_days(asked):
        if asked.since:
            found.add("toDate(event_time) >= toDate({since:String})", since=_day(asked.since))
        if asked.until:
            found.add("toDate(event_time) < toDate({until:String})", until=_day(asked.until))
    else:
        found.times(asked)
    found.texts(asked)
    found.within(asked.within)
    found.parts = [part.replace("tool_name =", "declared_tool =") for part in found.parts]
    return found


def _are_days(asked: EventFilter) -> bool:
    times = (asked.since, asked.until)
    return all(at is None or at.astimezone(UTC).time() == time.min for at in times)


def _day(at: datetime) -> str:
    return at.astimezone(UTC).date().isoformat()


def _server(row: Sequence[Any], latencies: _Rows) -> ServerUsage:
    _, _, _, server, namespace, team_id, *_ = row
    n, allowed, denied, seen, _, humans, agents = row[_EVENTS_AT:]
    latency = next(
        (_latency(at) for at in latencies if at[0] and not at[1] and at[2:4] == row[3:5]),
        _NO_LATENCY,
    )
    return ServerUsage(
        server, namespace, team_id, n, allowed, denied, humans, agents, moment(seen), latency
    )


def _team(row: Sequence[Any]) -> TeamUsage:
    n, allowed, denied, seen, servers, humans, agents = row[_EVENTS_AT:]
    return TeamUsage(row[5], n, allowed, denied, servers, humans, agents, moment(seen))


def _tool(row: Sequence[Any]) -> ToolUsage:
    server, tool, human, team, agent, n, _, denied, seen, namespace = row
    return ToolUsage(server, tool, human, team, agent, n, denied, moment(seen), namespace)


def _tool_latencies(rows: _Rows, limit: int) -> list[ToolLatency]:
    found = [ToolLatency(row[2], row[3], row[4], _latency(row)) for row in rows if row[1]]
    return found[:limit]


def _latency(row: Sequence[Any]) -> Latency:
    """The middle of each step."""
    *_, completions, steps = row
    if not completions:
        return _NO_LATENCY
    values = (round(_FIRST_STEP_MS * _STEP ** (step - 0.5), 3) for step in steps)
    return Latency(completions, *values)

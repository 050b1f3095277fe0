"""What every EventStore says of usage, beside sums made naively in Python."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.adapters import clickhouse_usage
from backend.ports.event_store import EventStore, StoredEvent
from backend.queries import EventFilter, Latency, Usage
from tests.contract.event_model import (
    decided,
    filters,
    grouped,
    is_call,
    marked,
    matching,
    stored,
    unique,
)
from tests.contract.stored_events import DAY, NOON, event

MIDNIGHT = NOON.replace(hour=0)
EVER = EventFilter()
# Whole days, an end of one, two ends with a day between them, and nothing whole.
WINDOWS = (
    (MIDNIGHT - DAY, None),
    (NOON, None),
    (NOON - DAY + timedelta(milliseconds=2), NOON + DAY + timedelta(milliseconds=2)),
    (NOON + timedelta(milliseconds=1), NOON + timedelta(hours=1)),
)
NONE = Latency(0, 0.0, 0.0, 0.0)


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    events=st.lists(stored(), min_size=5, max_size=40),
    questions=st.lists(filters(), min_size=len(WINDOWS), max_size=len(WINDOWS)),
)
def test_usage_is_what_the_events_make(
    store: EventStore, events: list[StoredEvent], questions: list[EventFilter]
) -> None:
    """Whole days from sums, and what is left at both ends from the events: the same figures."""
    mark, rows = marked(events)
    store.insert(rows)
    for (since, until), question in zip(WINDOWS, questions, strict=False):
        asked = replace(question, cluster=mark, event_type="", since=since, until=until)
        tool = asked.tool_name
        found = matching(rows, replace(asked, tool_name=""))
        calls = [e for e in found if is_call(e) and tool in ("", e.declared_tool)]
        check(store.usage(asked, 50), calls)


def check(usage: Usage, calls: Sequence[StoredEvent]) -> None:
    totals, all_ = usage.totals, decided(calls)
    assert (totals.events, totals.allowed, totals.denied) == (
        len(calls),
        all_["allow"],
        all_["deny"],
    )
    assert totals.unique_servers == unique(calls, "namespace", "server")
    assert totals.unique_humans == unique(calls, "human_id")
    assert totals.unique_agents == unique(calls, "agent_id")
    assert totals.unique_sessions == unique(calls, "session_id")
    assert {c.value: c.events for c in usage.decisions} == all_
    servers = grouped([e for e in calls if e.server], lambda e: (e.server, e.namespace, e.team_id))
    assert {
        (s.server, s.namespace, s.team_id): (
            s.events,
            s.unique_humans,
            s.unique_agents,
            s.last_seen,
        )
        for s in usage.servers
    } == {
        key: (len(of), unique(of, "human_id"), unique(of, "agent_id"), latest(of))
        for key, of in servers.items()
    }
    actors = grouped(
        [e for e in calls if e.human_id or e.agent_id], lambda e: (e.human_id, e.agent_id)
    )
    assert {
        (a.human_id, a.agent_id): (a.events, a.unique_servers, a.unique_tools, a.denied)
        for a in usage.actors
    } == {
        key: (
            len(of),
            unique(of, "namespace", "server"),
            unique(of, "namespace", "server", "declared_tool"),
            decided(of)["deny"],
        )
        for key, of in actors.items()
    }
    teams = grouped([e for e in calls if e.team_id], lambda e: e.team_id)
    assert {t.team_id: (t.events, t.unique_servers, t.last_seen) for t in usage.teams} == {
        team: (len(of), unique(of, "namespace", "server"), latest(of)) for team, of in teams.items()
    }
    tools = grouped(
        [e for e in calls if e.declared_tool],
        lambda e: (e.server, e.namespace, e.declared_tool, e.human_id, e.team_id, e.agent_id),
    )
    assert {
        (t.server, t.namespace, t.tool_name, t.human_id, t.team_id, t.agent_id): (
            t.events,
            t.denied,
        )
        for t in usage.tools
    } == {key: (len(of), decided(of)["deny"]) for key, of in tools.items()}
    assert sum(bucket.events for bucket in usage.series) == len(calls)
    for greatest in (usage.servers, usage.actors, usage.tools, usage.teams):
        counts = [each.events for each in greatest]
        assert counts == sorted(counts, reverse=True)


def latest(events: Sequence[StoredEvent]) -> datetime:
    return max(each.event_time for each in events)


def test_nothing_makes_no_usage(store: EventStore) -> None:
    """Zeros and empty lists."""
    usage = store.usage(EVER, 10)
    assert usage.totals.events == usage.totals.unique_sessions == 0
    assert usage.totals.latency == NONE
    lists = (usage.servers, usage.actors, usage.tools, usage.teams, usage.latencies)
    assert not any([*lists, usage.decisions, usage.series])


def test_a_series_has_steps_of_days_or_hours(store: EventStore, topic: UUID) -> None:
    """Days where the window begins at midnight, hours where it does not and is short."""
    store.insert([event(topic, n, event_time=NOON + n * DAY / 2) for n in range(3)])
    store.insert([event(topic, 9, event_time=NOON, decision="deny")])
    by_day = store.usage(replace(EVER, since=MIDNIGHT), 10)
    assert by_day.step_seconds == 86_400
    assert [(b.at, b.events, b.denied) for b in by_day.series] == [
        (MIDNIGHT, 2, 1),
        (MIDNIGHT + DAY, 2, 0),
    ]
    by_hour = store.usage(replace(EVER, since=NOON, until=NOON + DAY + timedelta(hours=1)), 10)
    assert by_hour.step_seconds == 3_600
    assert [(b.at, b.events) for b in by_hour.series] == [
        (NOON, 2),
        (NOON + DAY / 2, 1),
        (NOON + DAY, 1),
    ]


def test_a_day_is_one_of_utc(store: EventStore, topic: UUID) -> None:
    """A midnight elsewhere is none of ours: it is taken to the millisecond."""
    store.insert([event(topic, n, event_time=MIDNIGHT + timedelta(hours=n)) for n in range(4)])
    elsewhere = datetime.fromisoformat("2026-11-22T00:00:00-02:00")
    assert store.usage(replace(EVER, since=elsewhere), 10).totals.events == 2
    assert store.usage(replace(EVER, since=elsewhere.astimezone(UTC)), 10).totals.events == 2


def timed(topic: UUID, offset: int, latency_ms: float, **members: object) -> StoredEvent:
    payload = f'{{"latency_ms":{latency_ms}}}'
    given = {"server": "s", "declared_tool": "t", "decision": "allow", **members}
    return event(topic, offset, payload=payload, event_id=str(uuid4()), **given)


def test_latencies_are_right_to_a_twentieth(store: EventStore, topic: UUID) -> None:
    """Of calls that ended and were not denied; of servers, of tools and of all."""
    store.insert([timed(topic, n, n + 1) for n in range(100)])
    store.insert([timed(topic, n, 5000, server="u", declared_tool="") for n in range(3)])
    store.insert([timed(topic, 1, 0.2, decision="deny"), event(topic, 5, server="s")])
    late = {"event_type": "mcp.response", "decision": "", "server": "u", "declared_tool": ""}
    store.insert([timed(topic, 1, 5000, **late)])
    usage = store.usage(replace(EVER, since=MIDNIGHT), 10)
    (tool,) = usage.latencies
    assert (tool.server, tool.tool_name) == ("s", "t")
    assert tool.latency.completions == 100
    assert tool.latency.p50 == pytest.approx(50, rel=0.06)
    assert tool.latency.p95 == pytest.approx(95, rel=0.06)
    assert tool.latency.p99 == pytest.approx(99, rel=0.06)
    servers = {server.server: server.latency for server in usage.servers}
    assert servers["s"] == tool.latency
    assert servers["u"].completions == 4
    assert servers["u"].p50 == pytest.approx(5000, rel=0.06)
    assert usage.totals.latency.completions == 104
    denied = store.usage(replace(EVER, decision="deny"), 10).totals.latency
    assert denied.p50 == pytest.approx(0.2, rel=0.06)


def test_the_greatest_tools_are_found_among_many_actors(
    store: EventStore, topic: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether those who call most call them, or nearly nobody else calls anything."""
    monkeypatch.setattr(clickhouse_usage, "CANDIDATES", 2)
    rows = []
    for human, tools in {"a": "ttttuuu", "b": "vwxyz", "c": "vv", "d": "ttt"}.items():
        rows += [
            event(topic, 0, event_id=str(uuid4()), human_id=human, declared_tool=tool, server="s")
            for tool in tools
        ]
    store.insert(rows)

    def greatest(limit: int) -> list[tuple[str, str, int]]:
        tools = store.usage(EVER, limit).tools
        return [(tool.human_id, tool.tool_name, tool.events) for tool in tools]

    assert greatest(1) == [("a", "t", 4)]
    assert sorted(greatest(3)) == [("a", "t", 4), ("a", "u", 3), ("d", "t", 3)]


def test_lists_are_as_long_as_asked(store: EventStore, topic: UUID) -> None:
    """The greatest first; totals count all."""
    for n in range(4):
        given = {"server": f"s{n}", "human_id": f"h{n}", "team_id": f"t{n}", "declared_tool": "t"}
        store.insert([event(topic, n, event_id=str(uuid4()), **given) for _ in range(n + 1)])
    usage = store.usage(EVER, 2)
    assert [server.server for server in usage.servers] == ["s3", "s2"]
    assert [actor.human_id for actor in usage.actors] == ["h3", "h2"]
    assert [team.team_id for team in usage.teams] == ["t3", "t2"]
    assert [tool.human_id for tool in usage.tools] == ["h3", "h2"]
    assert usage.totals.unique_servers == 4

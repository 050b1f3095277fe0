"""Verdicts on starts of gateways, from what is stored of them."""

import itertools
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.api.completeness import Evidence, began_at, judge
from backend.api.testimony import HEARTBEAT, read_endings, read_gaps, read_heartbeats
from backend.api.verdicts import Start, Tail, Verdict, overall
from backend.gateway_runs import GatewayRun, Hole
from backend.ports.event_store import StoredEvent

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SINCE = NOW - timedelta(hours=1)
LONG_AGO = NOW - timedelta(minutes=30)


def start_id(at: datetime, number: int = 0) -> str:
    """A UUIDv7."""
    milliseconds = int(at.timestamp() * 1000)
    return str(UUID(int=milliseconds << 80 | 0x7000 << 64 | 1 << 63 | number))


RUNNING = start_id(LONG_AGO)
OLDER = start_id(SINCE - timedelta(hours=5))
NEXT = start_id(LONG_AGO + timedelta(minutes=5))


def told(kind: str, producer: str, at: datetime, by: str, **payload: Any) -> StoredEvent:
    return StoredEvent(
        event_time=at,
        event_id=f"{kind}-{at.timestamp()}",
        source="mcp-proxy",
        event_type=kind,
        payload=json.dumps(payload),
        topic_id=UUID(int=1),
        log_partition=0,
        log_offset=0,
        producer=producer,
        gateway_start=by,
    )


def gap(
    first: int,
    last: int,
    *,
    lost: str = RUNNING,
    producer: str = "p",
    at: datetime = LONG_AGO,
    by: str = NEXT,
    cause: str = "crash",
) -> StoredEvent:
    return told(
        "audit.gap",
        producer,
        at,
        by,
        lost_gateway_start=lost,
        first=first,
        last=last,
        count=last - first + 1,
        cause=cause,
    )


def ending(
    next_sequence: int,
    *,
    ended: str = RUNNING,
    producer: str = "p",
    at: datetime = LONG_AGO,
    by: str = NEXT,
) -> StoredEvent:
    return told(
        "gateway.start",
        producer,
        at,
        by,
        previous_gateway_start=ended,
        previous_next_sequence=next_sequence,
    )


def stored(
    numbers: Iterable[int],
    *,
    start: str = RUNNING,
    producer: str = "p",
    first_at: datetime = LONG_AGO,
    last_at: datetime = NOW,
    rows: int = 0,
    heartbeats: int = 1,
    started: bool = True,
) -> tuple[GatewayRun, list[Hole]]:
    """What the store says where it holds these numbers."""
    there = sorted(set(numbers))
    holes = [
        Hole(producer, start, one + 1, other - 1, LONG_AGO)
        for one, other in itertools.pairwise(there)
        if other > one + 1
    ]
    run = GatewayRun(
        producer=producer,
        gateway="g",
        gateway_start=start,
        namespace="n",
        server="s",
        first=there[0],
        last=there[-1],
        present=len(there),
        rows=rows or len(there),
        first_at=first_at,
        last_at=last_at,
        started=started,
        heartbeats=heartbeats,
    )
    return run, holes


def judged(
    *found: tuple[GatewayRun, list[Hole]],
    tellings: Sequence[StoredEvent] = (),
    now: datetime = NOW,
    **more: Any,
) -> list[Start]:
    evidence = Evidence(
        since=SINCE,
        until=NOW + timedelta(minutes=2),
        runs=[run for run, _ in found],
        holes=[hole for _, holes in found for hole in holes],
        gaps=list(read_gaps(e for e in tellings if e.event_type == "audit.gap")),
        endings=list(read_endings(e for e in tellings if e.event_type == "gateway.start")),
        heartbeats=read_heartbeats(e for e in tellings if e.event_type == "gateway.start"),
        **more,
    )
    return judge(evidence, now)


WHOLE = [1, 2, 3, 4, 5]
TABLE: list[tuple[str, list[int], list[StoredEvent], Verdict, tuple[int, int]]] = [
    # what is stored, what is told; verdict, explained and unexplained
    ("all of it", WHOLE, [], Verdict.COMPLETE, (0, 0)),
    ("a hole", [1, 2, 5], [], Verdict.HOLES, (0, 2)),
    ("a hole told of", [1, 2, 5], [gap(3, 4)], Verdict.EXPLAINED, (2, 0)),
    ("a hole told of in part", [1, 2, 5], [gap(4, 4)], Verdict.HOLES, (1, 1)),
    ("a gap that claims too much", [1, 2, 5], [gap(1, 9)], Verdict.EXPLAINED, (6, 0)),
    ("a gap about what arrived", WHOLE, [gap(2, 4)], Verdict.COMPLETE, (0, 0)),
    ("a gap about another start", [1, 5], [gap(2, 4, lost=OLDER)], Verdict.HOLES, (0, 3)),
    ("another producer's gap", [1, 5], [gap(2, 4, producer="q")], Verdict.HOLES, (0, 3)),
    ("a gap of unknown extent", [1, 5], [gap(0, 0)], Verdict.HOLES, (0, 3)),
    ("unknown extent, no hole", WHOLE, [gap(0, 0)], Verdict.EXPLAINED, (0, 0)),
    ("the first is missing", [2, 3], [], Verdict.HOLES, (0, 1)),
    ("the first is told of", [2, 3], [gap(1, 1)], Verdict.EXPLAINED, (1, 0)),
    ("it ended there", WHOLE, [ending(6)], Verdict.COMPLETE, (0, 0)),
    ("its tail is missing", WHOLE, [ending(8)], Verdict.HOLES, (0, 2)),
    ("its tail is told of", WHOLE, [gap(6, 7), ending(8)], Verdict.EXPLAINED, (2, 0)),
    ("no more than it took", WHOLE, [gap(1, 99), ending(8)], Verdict.EXPLAINED, (2, 0)),
    ("another producer's end", WHOLE, [ending(8, producer="q")], Verdict.COMPLETE, (0, 0)),
    ("its own gap", [1, 2, 5], [gap(3, 4, by=RUNNING)], Verdict.EXPLAINED, (2, 0)),
    ("two causes", [1, 6], [gap(2, 3), gap(4, 5, cause="refused")], Verdict.EXPLAINED, (4, 0)),
    ("the same told twice", [1, 5], [gap(2, 4), gap(3, 4)], Verdict.EXPLAINED, (3, 0)),
]


@pytest.mark.parametrize(
    ("numbers", "tellings", "verdict", "counts"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_verdicts(
    numbers: list[int], tellings: list[StoredEvent], verdict: Verdict, counts: tuple[int, int]
) -> None:
    """What is stored and what is told of it make the verdict."""
    starts = judged(stored(numbers), tellings=tellings)
    mine = next(s for s in starts if (s.producer, s.gateway_start) == ("p", RUNNING))
    assert (mine.verdict, mine.explained, mine.unexplained) == (verdict, *counts)


def test_a_gap_says_how_much_of_it_is_missing() -> None:
    """A crash gap may claim what arrived."""
    (start,) = judged(stored([1, 2, 5]), tellings=[gap(2, 6)])
    assert [(m.first, m.last) for m in start.missing] == [(3, 4), (6, 6)]
    assert [start.missing_in(each) for each in start.gaps] == [3]


def test_duplicates_are_an_alarm() -> None:
    """More rows than numbers; a hole weighs more."""
    (start,) = judged(stored([1, 2], rows=3))
    assert (start.verdict, start.duplicates) == (Verdict.DUPLICATES, 1)
    (start,) = judged(stored([1, 3], rows=3))
    assert start.verdict is Verdict.HOLES


def test_a_start_of_before_need_not_show_its_beginning() -> None:
    """What it sent before the time asked about is not missing; an id without a time likewise."""
    for start in (OLDER, "no-uuid", str(UUID(int=7, version=4))):
        (found,) = judged(stored([70, 71], start=start))
        assert found.verdict is Verdict.COMPLETE


def test_a_start_of_which_nothing_is_stored_is_known_from_the_next() -> None:
    """It died before it sent anything; without a gap that is an alarm."""
    (start,) = judged(tellings=[gap(1, 3), ending(4)])
    assert (start.verdict, start.explained, start.run) == (Verdict.EXPLAINED, 3, None)
    (start,) = judged(tellings=[gap(1, 2), ending(4)])
    assert (start.verdict, start.unexplained) == (Verdict.HOLES, 1)
    assert not judged(tellings=[ending(4, ended=OLDER)])
    (start,) = judged(tellings=[gap(8, 9, lost=OLDER), gap(9, 9, lost=OLDER), ending(99)])[1:]
    assert (start.gateway_start, start.explained, start.unexplained) == (OLDER, 2, 0)


def test_nobody_explains_anothers_hole() -> None:
    """Two producers of one start are two starts, and each says that the other is there."""
    starts = judged(
        stored([1, 4]), stored([1, 2, 3, 4], producer="q"), tellings=[gap(2, 3, producer="q")]
    )
    assert [(s.producer, s.verdict, s.rivals) for s in starts] == [
        ("p", Verdict.HOLES, ("q",)),
        ("q", Verdict.COMPLETE, ("p",)),
    ]
    assert overall(starts) is Verdict.HOLES


SECONDS_AGO = NOW - timedelta(seconds=5)


def test_what_may_still_be_told_is_no_alarm_yet() -> None:
    """A gap comes with the next heartbeat, of the gateway's own time as far as it is stored."""
    young = stored([1, 4], last_at=LONG_AGO + timedelta(seconds=39))
    (start,) = judged(young, now=LONG_AGO + timedelta(seconds=60))
    assert (start.verdict, start.settling) == (Verdict.SETTLING, 2)
    (start,) = judged(young, now=LONG_AGO + timedelta(minutes=3))  # nothing came for so long
    assert start.verdict is Verdict.HOLES
    (start,) = judged(stored([1, 4], last_at=LONG_AGO + timedelta(seconds=40)))
    assert start.verdict is Verdict.HOLES


@pytest.mark.parametrize(
    ("told_at", "verdict"), [(SECONDS_AGO, Verdict.SETTLING), (LONG_AGO, Verdict.HOLES)]
)
def test_a_later_start_has_the_last_word(told_at: datetime, verdict: Verdict) -> None:
    """Once it is in the store for some seconds, nothing more will be told of the former one."""
    (start,) = judged(stored([1, 2], last_at=SECONDS_AGO), tellings=[ending(4, at=told_at)])
    assert (start.verdict, start.tail) == (verdict, Tail.TOLD)


@pytest.mark.parametrize(
    ("last_at", "heartbeats", "tellings", "tail"),
    [
        (NOW - timedelta(seconds=99), 1, [], Tail.OPEN),
        (NOW - timedelta(seconds=101), 1, [], Tail.SILENT),
        (LONG_AGO, 1, [ending(3)], Tail.TOLD),
        (LONG_AGO, 1, [gap(2, 2)], Tail.TOLD),
        (LONG_AGO, 1, [gap(0, 0, cause="mark_lost")], Tail.UNKNOWN),
        (LONG_AGO, 1, [gap(2, 2, by=RUNNING)], Tail.SILENT),
        (LONG_AGO, 0, [], Tail.UNKNOWN),
        (LONG_AGO, 1, [ending(900, at=NOW + timedelta(hours=1))], Tail.OPEN),
    ],
)
def test_tails(last_at: datetime, heartbeats: int, tellings: list[StoredEvent], tail: Tail) -> None:
    """What is known of the events behind the last one stored."""
    run = stored([1, 2], last_at=last_at, heartbeats=heartbeats, started=bool(heartbeats))
    (start,) = judged(run, tellings=tellings)
    assert start.tail is tail
    assert not start.unexplained


def test_silence_is_judged_by_the_gateways_own_heartbeat() -> None:
    """As its gateway.start tells, be it the first one, which tells of none before."""
    run = stored([1, 2, 4], last_at=NOW - timedelta(minutes=20))
    began = told("gateway.start", "p", LONG_AGO, RUNNING, heartbeat_seconds=600)
    (start,) = judged(run, tellings=[began])
    assert (start.tail, start.verdict) == (Tail.OPEN, Verdict.SETTLING)
    too_rare = told("gateway.start", "p", LONG_AGO, RUNNING, heartbeat_seconds=1e9)
    for tellings in ([], [too_rare]):
        (start,) = judged(run, tellings=tellings)
        assert (start.tail, start.verdict) == (Tail.SILENT, Verdict.HOLES)


def test_what_is_stored_at_another_time_is_not_missing() -> None:
    """A clock that jumped puts events outside of the time asked about."""
    found = stored([1, 5, 9])
    absent = {("p", RUNNING): [(3, 3), (7, 7), (10, 99)]}
    (start,) = judged(found, absent=absent)
    assert [(m.first, m.last) for m in start.missing] == [(3, 3), (7, 7)]


def test_what_is_missing_in_front_is_counted_once() -> None:
    """The store tells of holes between numbers of all times."""
    run, _ = stored([8, 9])
    (start,) = judged((run, [Hole("p", RUNNING, 5, 7, LONG_AGO)]))
    assert sorted((m.first, m.last) for m in start.missing) == [(1, 4), (5, 7)]
    run, _ = stored([8, 9], start=OLDER)
    (start,) = judged((run, [Hole("p", OLDER, 5, 7, LONG_AGO)]))
    assert [(m.first, m.last) for m in start.missing] == [(5, 7)]


def test_holes_that_were_not_read_are_an_alarm() -> None:
    """Nothing explains what nobody looked at."""
    run, holes = stored([1, 3, 5])
    (start,) = judged((run, holes[:1]), tellings=[gap(2, 4)], is_cut=True)
    assert (start.verdict, start.explained, start.unexplained) == (Verdict.HOLES, 1, 1)


def test_a_hole_behind_what_was_read_waits_for_the_next_look() -> None:
    """The runs are read first; events go on arriving."""
    run, _ = stored([1, 2])
    assert judged((run, [Hole("p", RUNNING, 3, 3, NOW)]))[0].verdict is Verdict.COMPLETE


@pytest.mark.parametrize(
    "payload",
    [
        "[]",
        "nonsense",
        '{"lost_gateway_start":"a","first":2,"last":1,"cause":"crash"}',
        '{"lost_gateway_start":"a","first":0,"last":9,"cause":"crash"}',
        '{"lost_gateway_start":"a","first":-1,"last":9,"cause":"crash"}',
        '{"lost_gateway_start":"a","first":1,"last":1e99,"cause":"crash"}',
        '{"lost_gateway_start":1,"first":1,"last":2,"cause":"crash"}',
        '{"first":1,"last":2}',
    ],
)
def test_what_cannot_be_read_explains_nothing(payload: str) -> None:
    """Whoever may send events may send such gaps."""
    event = gap(1, 2)
    broken = StoredEvent(
        **{n: getattr(event, n) for n in event.__struct_fields__} | {"payload": payload}
    )
    assert not list(read_gaps([broken]))
    assert not list(read_endings([broken]))
    assert set(read_heartbeats([broken]).values()) <= {HEARTBEAT}


def test_the_time_of_an_id() -> None:
    """A UUIDv7 carries when it was made."""
    assert began_at(start_id(LONG_AGO)) == LONG_AGO
    assert began_at("ffffffff-ffff-7fff-bfff-ffffffffffff") is None


SPANS = st.tuples(st.integers(1, 24), st.integers(1, 24)).map(lambda ends: (min(ends), max(ends)))


@given(
    numbers=st.sets(st.integers(1, 20), min_size=1),
    gaps=st.lists(SPANS, max_size=4),
    taken=st.none() | st.integers(1, 24),
)
def test_every_number_is_accounted_for(
    numbers: set[int], gaps: list[tuple[int, int]], taken: int | None
) -> None:
    """As a naive count has it: stored, in a gap, or an alarm; and never two of them."""
    tellings = [gap(*ends) for ends in gaps]
    if taken is not None:
        tellings.append(ending(taken + 1))
    (start,) = judged(stored(numbers), tellings=tellings)
    explainable = {n for first, last in gaps for n in range(first, last + 1)}
    end = max([max(numbers), max(explainable, default=0) if taken is None else taken])
    missing = set(range(1, end + 1)) - numbers
    found = [(n, bool(m.gap)) for m in start.missing for n in range(m.first, m.last + 1)]
    assert sorted(found) == [(n, n in explainable) for n in sorted(missing)]
    assert start.end == end
    assert (start.verdict is Verdict.HOLES) == bool(missing - explainable)
    assert (start.verdict is Verdict.COMPLETE) == (not missing)

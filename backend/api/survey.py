"""Looks the audit trail through: what the store holds, judged."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from backend.api.completeness import Evidence, began_at, judge
from backend.api.spans import Span
from backend.api.testimony import Gap, read_endings, read_gaps, read_heartbeats
from backend.api.verdicts import Key, Start, Verdict, overall
from backend.gateway_runs import GatewayRun
from backend.ports.event_store import CHANGE_RECORDERS, EventStore
from extauthz.core.errors import Retryable

MOST_HOLES: Final = 10_000
MOST_LOOKED_UP: Final = 20
# Events are looked at a little longer than asked for: between two windows that touch no
# hole is left out, for nearly every living gateway sends something within this time.
MARGIN: Final = timedelta(minutes=2)
CLOCK_JUMP: Final = timedelta(days=2)
LAST_NUMBER: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Survey:
    """What was asked, and what was found.

    Args:
        since, until: as asked.
        at: when it was found.
        starts: the worst first.
        unnumbered: events that no gateway numbers, of which nothing can be proven; without
            what this backend itself records.
        of_unknown_starts: gaps that cannot name the start that lost something.
        is_cut: there are more holes than were looked at.
    """

    since: datetime
    until: datetime
    at: datetime
    starts: Sequence[Start]
    unnumbered: Sequence[GatewayRun]
    of_unknown_starts: Sequence[Gap]
    is_cut: bool

    @property
    def verdict(self) -> Verdict:
        worst = overall(self.starts)
        if worst is Verdict.COMPLETE and self.of_unknown_starts:
            return Verdict.EXPLAINED
        return worst


def survey(store: EventStore, since: datetime, until: datetime, now: datetime) -> Survey:
    """Judge all starts that sent something between `since` and `until`.

    Raises:
        Retryable: the store is away.
    """
    evidence = _gather(store, since - MARGIN, until + MARGIN)
    slowest = max(evidence.heartbeats.values(), default=MARGIN)
    if slowest > MARGIN:
        evidence = _gather(store, since - slowest - MARGIN, until + slowest + MARGIN)
    starts = judge(evidence, now)
    alarming = [each for each in starts if each.unexplained][:MOST_LOOKED_UP]
    if alarming:
        evidence = replace(evidence, absent=_absent(store, evidence, alarming))
        starts = judge(evidence, now)
    return Survey(
        since=since,
        until=until,
        at=now,
        starts=starts,
        unnumbered=[
            run
            for run in evidence.runs
            if not run.gateway_start and run.producer not in CHANGE_RECORDERS
        ],
        of_unknown_starts=[gap for gap in evidence.gaps if not gap.lost_start],
        is_cut=evidence.is_cut,
    )


def _gather(store: EventStore, since: datetime, until: datetime) -> Evidence:
    # In this order: what arrives meanwhile can explain a hole, and never seems to be one.
    runs = store.gateway_runs(since, until)
    holes = store.holes(since, until, MOST_HOLES)
    # A start tells of its heartbeat when it begins, perhaps long before this time.
    began = filter(None, (began_at(run.gateway_start) for run in runs))
    starts = store.starts(min([since, *began]))
    return Evidence(
        since=since,
        until=until,
        runs=runs,
        holes=holes,
        is_cut=len(holes) >= MOST_HOLES,
        endings=list(read_endings(each for each in starts if each.event_time >= since)),
        heartbeats=read_heartbeats(starts),
        gaps=list(read_gaps(store.gaps(since))),
    )


def _absent(
    store: EventStore, evidence: Evidence, starts: Iterable[Start]
) -> Mapping[Key, Sequence[Span]]:
    """Of each start, the numbers that it does not have at other times either.

    A clock that is set puts events outside of the time asked about.
    """
    since, until = evidence.since - CLOCK_JUMP, evidence.until + CLOCK_JUMP
    found = {}
    for start in starts:
        try:
            runs = store.gateway_runs(since, until, start.gateway_start)
            holes = store.holes(since, until, MOST_HOLES, start.gateway_start)
        except Retryable:  # too much to look through: the alarm stands
            continue
        run = next((each for each in runs if each.producer == start.producer), None)
        if run is None or len(holes) >= MOST_HOLES:
            continue
        between = [(h.first, h.last) for h in holes if h.producer == start.producer]
        found[start.key] = [(1, run.first - 1), *between, (run.last + 1, LAST_NUMBER)]
    return found

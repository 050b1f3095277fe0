"""The completeness report as the api shows it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from backend.api.advice import next_step
from backend.api.completeness import began_at
from backend.api.survey import Survey
from backend.api.testimony import Gap
from backend.api.verdicts import Missing, Start, Tail, Verdict
from backend.gateway_runs import GatewayRun
from extauthz.core.times import format_instant

MOST_STARTS: Final = 1_000  # listed; the worst come first, and totals count them all
LARGEST: Final = (1 << 64) - 1  # what is written as a number


class Totals(msgspec.Struct, frozen=True):
    """Of all starts, those that are not listed too."""

    starts: int
    present: int
    missing: int
    explained: int
    settling: int
    unexplained: int
    duplicates: int
    silent: int
    unnumbered: int


class HoleReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """Numbers that are not stored, ends included."""

    first: int
    last: int
    count: int
    state: Literal["explained", "settling", "unexplained"]
    cause: str = ""


class GapReport(msgspec.Struct, frozen=True):
    """An `audit.gap`; `missing` is how many of its numbers are not stored."""

    first: int
    last: int
    count: int
    cause: str
    at: str
    event_id: str
    told_by: str
    missing: int | UnsetType = UNSET


class StartReport(msgspec.Struct, frozen=True, kw_only=True):
    """One start of a gateway, judged."""

    producer: str
    namespace: str
    server: str
    gateway: str
    gateway_start: str
    undecided: bool
    began_at: str | None
    first_at: str | None
    last_at: str | None
    first: int
    last: int
    end: int
    present: int
    missing: int
    explained: int
    settling: int
    unexplained: int
    duplicates: int
    verdict: Verdict
    tail: Tail
    holes: list[HoleReport]
    gaps: list[GapReport]
    next_step: str


class Unnumbered(msgspec.Struct, frozen=True):
    """Events that no gateway numbers, of which nothing can be proven."""

    producer: str
    namespace: str
    server: str
    events: int
    last_at: str


class CompletenessReport(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the audit trail of that time is whole."""

    verdict: Verdict
    alarm: bool
    since: str
    until: str
    at: str
    totals: Totals
    starts: list[StartReport]
    starts_left_off: int
    holes_left_off: bool
    gaps_of_unknown_starts: list[GapReport]
    unnumbered: list[Unnumbered]


def described(found: Survey) -> CompletenessReport:
    """What was found, for programs."""
    starts = found.starts
    return CompletenessReport(
        verdict=found.verdict,
        alarm=found.verdict.is_alarm,
        since=_time(found.since),
        until=_time(found.until),
        at=_time(found.at),
        totals=_totals(found),
        starts=[_start(start) for start in starts[:MOST_STARTS]],
        starts_left_off=max(0, len(starts) - MOST_STARTS),
        holes_left_off=found.is_cut,
        gaps_of_unknown_starts=[_gap(gap) for gap in found.of_unknown_starts],
        unnumbered=[_unnumbered(run) for run in found.unnumbered],
    )


def _totals(found: Survey) -> Totals:
    starts = found.starts
    return Totals(
        starts=len(starts),
        present=sum(start.run.present for start in starts if start.run),
        missing=_total(start.missed for start in starts),
        explained=_total(start.explained for start in starts),
        settling=_total(start.settling for start in starts),
        unexplained=_total(start.unexplained for start in starts),
        duplicates=sum(start.duplicates for start in starts),
        silent=sum(start.tail is Tail.SILENT for start in starts),
        unnumbered=sum(run.rows for run in found.unnumbered),
    )


def _start(start: Start) -> StartReport:
    run, began = start.run, began_at(start.gateway_start)
    namespace, server, gateway = start.names
    return StartReport(
        producer=start.producer,
        namespace=namespace,
        server=server,
        gateway=gateway,
        gateway_start=start.gateway_start,
        undecided=start.is_undecided,
        began_at=_time(began) if began else None,
        first_at=_time(run.first_at) if run else None,
        last_at=_time(run.last_at) if run else None,
        first=run.first if run else 0,
        last=run.last if run else 0,
        end=start.end,
        present=run.present if run else 0,
        missing=start.missed,
        explained=start.explained,
        settling=start.settling,
        unexplained=start.unexplained,
        duplicates=start.duplicates,
        verdict=start.verdict,
        tail=start.tail,
        holes=[_hole(each) for each in start.missing],
        gaps=[_gap(gap, start.missing_in(gap)) for gap in start.gaps],
        next_step=next_step(start),
    )


def _hole(missing: Missing) -> HoleReport:
    first, last, count = missing.first, missing.last, missing.count
    if missing.gap:
        return HoleReport(first, last, count, "explained", missing.gap.cause)
    return HoleReport(first, last, count, "settling" if missing.is_settling else "unexplained")


def _gap(gap: Gap, missing: int | UnsetType = UNSET) -> GapReport:
    return GapReport(
        first=gap.first,
        last=gap.last,
        count=gap.count,
        cause=gap.cause,
        at=_time(gap.at),
        event_id=gap.event.event_id,
        told_by=gap.event.gateway_start,
        missing=missing,
    )


def _unnumbered(run: GatewayRun) -> Unnumbered:
    return Unnumbered(run.producer, run.namespace, run.server, run.rows, _time(run.last_at))


def _total(numbers: Iterable[int]) -> int:
    """Their sum; whoever may send events may send a number that makes it larger than JSON's."""
    return min(sum(numbers), LARGEST)


def _time(moment: datetime) -> str:
    return format_instant(moment.timestamp())

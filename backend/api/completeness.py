"""Whether the audit trail is whole, told from the numbers that gateways give their events. Pure.

A gateway numbers what it takes from 1, without holes, anew at each start. What is not stored
although something behind it is, or although a later start tells of it, is missing; a gap event
of the same producer explains it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from backend.api.spans import Span, joined, left, shared
from backend.api.testimony import HEARTBEAT, Ending, Gap
from backend.api.verdicts import SEVERITY, Key, Missing, Start, Tail
from backend.gateway_runs import GatewayRun, Hole

Item = TypeVar("Item")

SETTLE: Final = timedelta(seconds=10)  # from the gateway to the store, with room


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the store holds.

    Args:
        since, until: time of the events that `runs` and `holes` are about.
        runs: one for each producer and start.
        holes: in front of stored events of that time.
        is_cut: there are more holes than these.
        gaps: told at `since` or later.
        endings: of earlier starts, told at `since` or later.
        heartbeats: time between two of a start, where it tells.
        absent: of some starts, the numbers that are stored at no other time either.
    """

    since: datetime
    until: datetime
    runs: Sequence[GatewayRun]
    holes: Sequence[Hole] = ()
    is_cut: bool = False
    gaps: Sequence[Gap] = ()
    endings: Sequence[Ending] = ()
    heartbeats: Mapping[Key, timedelta] = field(default_factory=dict)
    absent: Mapping[Key, Sequence[Span]] = field(default_factory=dict)

    def holds_beginning(self, key: Key) -> bool:
        """Whether a start began in this time, so that it must show from its first number on."""
        began = began_at(key[1])
        return began is not None and self.since <= began <= self.until


def judge(evidence: Evidence, now: datetime) -> list[Start]:
    """Every start that is stored or told of, the worst first."""
    runs = {(run.producer, run.gateway_start): run for run in evidence.runs}
    holes = _grouped(evidence.holes, lambda hole: (hole.producer, hole.gateway_start))
    gaps = _grouped(evidence.gaps, lambda gap: (gap.event.producer, gap.lost_start))
    endings = {(e.event.producer, e.ended_start): e for e in reversed(evidence.endings)}
    senders = _grouped(runs, lambda key: ("", key[1]))
    found = []
    for key in sorted({*runs, *gaps, *filter(evidence.holds_beginning, endings)}):
        if not key[1]:  # numbered by no gateway, or told of no known start
            continue
        case = _Case(evidence, now, key, runs.get(key), holes[key], gaps[key], endings.get(key))
        rivals = tuple(producer for producer, _ in senders["", key[1]] if producer != key[0])
        found.append(case.judged(rivals))
    return sorted(found, key=lambda s: (-SEVERITY[s.verdict], s.names, s.gateway_start))


def began_at(gateway_start: str) -> datetime | None:
    """The time in a UUIDv7; None for anything else."""
    try:
        made = UUID(gateway_start)
        return datetime.fromtimestamp((made.int >> 80) / 1000, UTC) if made.version == 7 else None
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class _Case:
    """All that is known about one start."""

    evidence: Evidence
    now: datetime
    key: Key
    run: GatewayRun | None
    holes: Sequence[Hole]
    gaps: Sequence[Gap]
    ending: Ending | None

    @property
    def _telling(self) -> timedelta:
        """A refused event is told with the next heartbeat."""
        return self.evidence.heartbeats.get(self.key, HEARTBEAT) + SETTLE

    @property
    def _silence(self) -> timedelta:
        return 3 * self.evidence.heartbeats.get(self.key, HEARTBEAT) + SETTLE

    def judged(self, rivals: tuple[str, ...]) -> Start:
        return Start(
            *self.key,
            run=self.run,
            end=self._end(),
            missing=tuple(sorted(self._missing(), key=lambda each: each.first)),
            unlisted=self._unlisted(),
            gaps=tuple(self.gaps),
            tail=self._tail(),
            rivals=rivals,
        )

    def _missing(self) -> Iterator[Missing]:
        """Each range that is not stored, cut where another gap explains it."""
        for span, is_settling in self._candidates():
            spans = shared(span, self.evidence.absent.get(self.key, [span]))
            for gap in self.gaps:
                for first, last in [part for s in spans for part in shared(s, [gap.span])]:
                    yield Missing(first, last, gap)
                spans = [part for s in spans for part in left(s, [gap.span])]
            for first, last in spans:
                yield Missing(first, last, is_settling=is_settling)

    def _candidates(self) -> Iterator[tuple[Span, bool]]:
        """What is missing in head, body and tail, and whether it may still be told of."""
        run, end = self.run, self._end()
        if run is None:
            if self.evidence.holds_beginning(self.key):
                yield (1, end), self._is_tail_settling()
            else:  # how many it had before is not this window's question
                yield from ((span, False) for span in joined(gap.span for gap in self.gaps))
            return
        # What came behind the run's last was stored after the run had been read.
        holes = [hole for hole in self.holes if hole.last < run.last]
        for hole in holes:
            yield (hole.first, hole.last), self._is_settling(hole.at)
        if self.evidence.holds_beginning(self.key):
            for span in left((1, run.first - 1), ((hole.first, hole.last) for hole in holes)):
                yield span, self._is_settling(run.first_at)
        if end > run.last:
            yield (run.last + 1, end), self._is_tail_settling()

    def _is_settling(self, seen: datetime) -> bool:
        """Whether a gap may still tell of what is missing in front of an event of that time.

        It comes with the next heartbeat at the latest, or with the next start. Time is the
        gateway's own as far as it is stored: the store may be far behind, and catch up.
        """
        if self.ending and self.now - self.ending.at >= SETTLE:
            return False
        last_at = self.run.last_at if self.run else seen
        return last_at - seen < self._telling and self.now - last_at < self._silence

    def _is_tail_settling(self) -> bool:
        return any(self.now - told.at < SETTLE for told in self._tellers())

    def _tellers(self) -> list[Ending | Gap]:
        """What tells where this start ended; what was told later belongs to a later window."""
        told: list[Ending | Gap] = [g for g in self.gaps if g.event.gateway_start != self.key[1]]
        if self.ending:
            told = [self.ending]
        return [each for each in told if each.at <= self.evidence.until]

    def _end(self) -> int:
        ends = [
            each.next_sequence - 1 if isinstance(each, Ending) else each.last
            for each in self._tellers()
        ]
        return max([self.run.last if self.run else 0, *ends])

    def _tail(self) -> Tail:
        run, tellers = self.run, self._tellers()
        if any(isinstance(each, Ending) or each.last for each in tellers):
            return Tail.TOLD
        if tellers or (run and not run.started and not run.heartbeats):
            return Tail.UNKNOWN
        heard_until = min(self.now, self.evidence.until) - self._silence
        if self.ending or (run and run.last_at >= heard_until):
            return Tail.OPEN
        return Tail.SILENT

    def _unlisted(self) -> int:
        run = self.run
        if run is None or not self.evidence.is_cut or self.key in self.evidence.absent:
            return 0
        listed = sum(
            hole.last - hole.first + 1
            for hole in self.holes
            if run.first < hole.first and hole.last < run.last
        )
        return max(0, run.last - run.first + 1 - run.present - listed)


def _grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> Mapping[Key, list[Item]]:
    found: dict[Key, list[Item]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found

"""What can be known about one start of a gateway. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from backend.api.spans import shared, size
from backend.api.testimony import Gap
from backend.gateway_runs import GatewayRun

Key = tuple[str, str]  # producer and gateway start: nobody speaks for another producer's start


class Verdict(StrEnum):
    """What is known about one start, from good to bad; the last two are alarms."""

    COMPLETE = "complete"  # each number is stored, once
    EXPLAINED = "explained"  # what is missing lies in ranges that gap events name
    SETTLING = "settling"  # what is missing may still be told of
    DUPLICATES = "duplicates"  # a number is stored more than once
    HOLES = "holes"  # something is missing that no gap event names

    @property
    def is_alarm(self) -> bool:
        return self in {Verdict.DUPLICATES, Verdict.HOLES}


SEVERITY: Final = {verdict: place for place, verdict in enumerate(Verdict)}


class Tail(StrEnum):
    """What is known of the events behind the last one stored."""

    TOLD = "told"  # a later start tells where this one ended
    OPEN = "open"  # heard of a moment ago, or going on behind the time asked about
    SILENT = "silent"  # no heartbeat any more, and no later start tells where it ended
    UNKNOWN = "unknown"  # an undecided log has no heartbeats; or the gateway's own mark was lost


@dataclass(frozen=True, slots=True)
class Missing:
    """A range that is not stored.

    Args:
        first, last: ends, included.
        gap: what explains it.
        is_settling: its explanation may still arrive.
    """

    first: int
    last: int
    gap: Gap | None = None
    is_settling: bool = False

    @property
    def count(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a gateway, judged.

    Args:
        run: what is stored of it; None where nothing is.
        end: the greatest number that it is known to have taken.
        missing: in order.
        unlisted: further missing numbers, of which it is not known where they lie.
        gaps: all that tell of this start.
        rivals: other producers that send events of this start.
    """

    producer: str
    gateway_start: str
    run: GatewayRun | None
    end: int
    missing: tuple[Missing, ...]
    unlisted: int
    gaps: tuple[Gap, ...]
    tail: Tail
    rivals: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return self.producer, self.gateway_start

    @property
    def names(self) -> tuple[str, str, str]:
        """Namespace, server and gateway, as what is stored of it or told of it has them."""
        told = self.run or next((gap.event for gap in self.gaps), None)
        return (told.namespace, told.server, told.gateway) if told else ("", "", "")

    @property
    def verdict(self) -> Verdict:
        if self.unexplained:
            return Verdict.HOLES
        if self.duplicates:
            return Verdict.DUPLICATES
        if self.settling:
            return Verdict.SETTLING
        told = self.explained or any(not gap.count for gap in self.gaps)
        return Verdict.EXPLAINED if told else Verdict.COMPLETE

    @property
    def is_undecided(self) -> bool:
        """Whether it is a log of undecided requests: those neither begin nor beat."""
        return bool(self.run and not self.run.started and not self.run.heartbeats)

    @property
    def duplicates(self) -> int:
        """Rows beyond the first of each number."""
        return self.run.rows - self.run.present if self.run else 0

    @property
    def explained(self) -> int:
        return sum(each.count for each in self.missing if each.gap)

    @property
    def settling(self) -> int:
        return sum(each.count for each in self.missing if each.is_settling)

    @property
    def unexplained(self) -> int:
        """How many are missing, named by no gap, and not to be waited for."""
        found = (each.count for each in self.missing if not each.gap and not each.is_settling)
        return sum(found) + self.unlisted

    @property
    def missed(self) -> int:
        """How many are missing in all."""
        return self.explained + self.settling + self.unexplained

    def missing_in(self, gap: Gap) -> int:
        """How many of the gap's range are missing; it may claim some that arrived."""
        return size(
            part for each in self.missing for part in shared((each.first, each.last), [gap.span])
        )


def overall(starts: Iterable[Start]) -> Verdict:
    """The worst of them."""
    return max((s.verdict for s in starts), key=SEVERITY.__getitem__, default=Verdict.COMPLETE)

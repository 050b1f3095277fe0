"""The start: tell what the previous process lost, then take over its spool."""

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from extauthz.core.errors import Invalid
from extauthz.core.events import Cause, EventType
from extauthz.emitter.debts import Debts
from extauthz.emitter.entries import Encoder, Gap, Notice
from extauthz.emitter.journal import Leftover, read_journal, remove_journal
from extauthz.emitter.mark import Mark, MarkReading, read_mark
from extauthz.emitter.options import EmitterOptions
from extauthz.emitter.spool import Spool, open_spool
from extauthz.emitter.volume import unusable

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Takeover:
    """A start that accounts for those before it.

    Args:
        spool, mark: open, and of this start.
        ordinal: of this start in the spool.
        starts: gateway_start by ordinal, of all that the spool knows.
        recovered: events that earlier starts left.
        gaps: what earlier starts lost; each is the start's own event already, in the spool.
        faults: unreadable files met.
        previous: where the start before ended; None where that is not known.
    """

    spool: Spool
    mark: Mark
    ordinal: int
    starts: Mapping[int, str]
    recovered: int
    gaps: tuple[Gap, ...]
    faults: int
    previous: MarkReading | None = None


def take_over(
    options: EmitterOptions, clock: Callable[[], float], new_id: Callable[[], str]
) -> Takeover:
    """Open mark and spool, and write down the gaps of the previous start. Blocks on the disk.

    Raises:
        Invalid: the folder cannot be used; see `open_spool`.
    """
    folder = options.spool_folder
    journal_bytes = options.journal_max_bytes if options.durable else 0
    spool, spool_fault = open_spool(folder / "spool.db", options.spool_max_bytes, journal_bytes)
    try:
        reading, mark_fault = _read(folder / "mark")
        for fault in filter(None, (spool_fault, mark_fault)):
            _log.error("the audit trail of the previous start is damaged", extra={"error": fault})
        saved = _saved(folder, spool, reading)
        debts = Debts()
        for loss in _losses(spool, reading, saved, lost_spool=bool(spool_fault)):
            debts.owe(loss)
        gaps = tuple(debts.take_owed())
        gateway_start = new_id()
        encoder = Encoder(options, gateway_start)
        bodies = [encoder.encode(each) for each in _notices(gaps, clock, new_id)]
        # First the spool, at one stroke, then the mark: between the two the old mark is
        # known to be accounted for, and the new start has nothing but what is spooled.
        ordinal = spool.begin(gateway_start, bodies, saved)
        remove_journal(folder)
        starts = {start.ordinal: name for name, start in spool.starts().items()}
        recovered = spool.count - len(gaps)
        mark = _new_mark(folder / "mark", gateway_start, len(gaps) + 1)
    except BaseException as error:
        spool.close()
        if isinstance(error, sqlite3.Error):
            raise unusable(folder / "spool.db", error) from error
        raise
    for gap in gaps:
        lost = {"first": gap.first, "last": gap.last, "cause": gap.cause.value}
        _log.warning("events lost", extra=lost)
    faults = bool(spool_fault) + bool(mark_fault)
    return Takeover(spool, mark, ordinal, starts, recovered, gaps, faults, reading)


def _notices(
    gaps: Iterable[Gap], clock: Callable[[], float], new_id: Callable[[], str]
) -> Iterator[Notice]:
    """The first events of this start: what was lost."""
    for place, gap in enumerate(gaps, 1):
        yield Notice(place, clock(), 0.0, new_id(), EventType.AUDIT_GAP, gap.to_payload())


def _read(path: Path) -> tuple[MarkReading | None, str]:
    try:
        return read_mark(path), ""
    except Invalid as error:
        return None, str(error)


def _new_mark(path: Path, gateway_start: str, next_sequence: int) -> Mark:
    try:
        return Mark(path, gateway_start, next_sequence)
    except OSError as error:
        raise unusable(path, error) from error


def _saved(folder: Path, spool: Spool, mark: MarkReading | None) -> list[Leftover]:
    """What the journal holds of starts that are not accounted for, from their mark on."""
    starts = spool.starts()
    saved = []
    for left in read_journal(folder):
        start = starts.get(left.gateway_start)
        if start is None or not start.closed:
            known = mark is not None and mark.gateway_start == left.gateway_start
            since = mark.settled if mark is not None and known else 0
            events = [event for event in left.events if event[0] >= since]
            saved.append(Leftover(left.gateway_start, events))
    return saved


def _losses(
    spool: Spool, mark: MarkReading | None, saved: Sequence[Leftover], *, lost_spool: bool
) -> Iterator[Gap]:
    starts = spool.starts()
    if mark is not None:
        start = starts.get(mark.gateway_start)
        present = {
            sequence
            for left in saved
            if left.gateway_start == mark.gateway_start
            for sequence, _ in left.events
        }
        # After a power cut the journal may be ahead of the mark.
        end = max(mark.next_sequence, max(present, default=0) + 1)
        first, cause = mark.settled, Cause.CRASH
        if start is None:  # a mark without its spool
            first, cause = 1, Cause.SPOOL_LOST
        else:
            present.update(spool.sequences(start.ordinal, mark.settled))
        if start is None or not start.closed:
            for since, until in missing(first, end, sorted(present)):
                yield Gap(mark.gateway_start, since, until, cause)
    elif lost_spool:
        yield Gap("", 0, 0, Cause.SPOOL_LOST)
    elif starts:
        yield Gap(list(starts)[-1], 0, 0, Cause.MARK_LOST)
    yield from spool.refused()


def missing(first: int, end: int, present: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Runs of whole numbers in [first, end) that are not in `present` (ascending)."""
    for found in present:
        if found > first:
            yield first, found - 1
        first = max(first, found + 1)
    if first < end:
        yield first, end - 1

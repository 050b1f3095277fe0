import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uuid_utils

from extauthz.core.events import Cause
from extauthz.emitter import EmitterOptions
from extauthz.emitter.entries import Gap, Line
from extauthz.emitter.journal import Journal, to_record
from extauthz.emitter.mark import BLOCK
from extauthz.emitter.recovery import Takeover, missing, take_over


def begin(folder: Path) -> Takeover:
    options = EmitterOptions("http://127.0.0.1:1/events", folder, server="billing")
    taken = take_over(options, time.time, lambda: str(uuid_utils.uuid7()))
    OPEN.append(taken)
    return taken


def die(taken: Takeover) -> str:
    """End as a kill would: nothing is settled or flushed any more."""
    taken.spool.close()
    return taken.mark.gateway_start


OPEN: list[Takeover] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().spool.close()


@pytest.mark.parametrize(
    ("first", "end", "present", "runs"),
    [
        (1, 1, [], []),
        (1, 4, [], [(1, 3)]),
        (1, 4, [1, 2, 3], []),
        (1, 6, [3], [(1, 2), (4, 5)]),
        (3, 6, [3, 5], [(4, 4)]),
    ],
)
def test_missing_runs(first: int, end: int, present: list[int], runs: Any) -> None:
    """What is not present is found, run by run."""
    assert list(missing(first, end, present)) == runs


def test_first_start_has_lost_nothing(tmp_path: Path) -> None:
    """An empty folder tells of no gap and no fault."""
    taken = begin(tmp_path)
    assert (taken.gaps, taken.faults, taken.mark.next_sequence) == ((), 0, 1)


def test_what_died_in_memory_is_a_gap(tmp_path: Path) -> None:
    """Open sequences that are not in the spool, run by run, and nothing else."""
    taken = begin(tmp_path)
    for _ in range(6):
        taken.mark.take()
    taken.mark.settle(2)
    taken.spool.append([Line(taken.ordinal, sequence, b"{}") for sequence in (3, 4)])
    start = die(taken)
    again = begin(tmp_path)
    assert again.gaps == (Gap(start, 2, 2, Cause.CRASH), Gap(start, 5, 6, Cause.CRASH))
    assert (again.recovered, again.spool.count, again.mark.next_sequence) == (2, 4, 3)


def test_gaps_are_told_once(tmp_path: Path) -> None:
    """The next start but one has nothing to add."""
    taken = begin(tmp_path)
    taken.mark.take()
    die(taken)
    die(begin(tmp_path))
    assert begin(tmp_path).gaps == ()


def test_death_between_spool_and_mark_tells_nothing_twice(tmp_path: Path) -> None:
    """The gap is in the spool, the old mark still in place: it is known to be accounted for."""
    taken = begin(tmp_path)
    taken.mark.take()
    start = die(taken)
    mark = (tmp_path / "mark").read_bytes()
    again = begin(tmp_path)
    assert again.gaps == (Gap(start, 1, 1, Cause.CRASH),)
    die(again)
    (tmp_path / "mark").write_bytes(mark)
    third = begin(tmp_path)
    assert (third.gaps, third.recovered) == ((), 1)


@pytest.mark.parametrize("garbage", [None, b"", b"garbage" * 1000])
def test_lost_mark_is_told(tmp_path: Path, garbage: bytes | None) -> None:
    """Torn, foreign or deleted: a gap of unknown extent, for the start that is known."""
    start = die(begin(tmp_path))
    if garbage is None:
        (tmp_path / "mark").unlink()
    else:
        (tmp_path / "mark").write_bytes(garbage)
    again = begin(tmp_path)
    assert again.gaps == (Gap(start, 0, 0, Cause.MARK_LOST),)
    assert again.faults == (0 if garbage is None else 1)
    assert again.gaps[0].count == 0


@pytest.mark.parametrize("garbage", [None, b"garbage" * 1000])
def test_lost_spool_is_told(tmp_path: Path, garbage: bytes | None) -> None:
    """Without the spool, anything that the start took may be missing."""
    taken = begin(tmp_path)
    for _ in range(3):
        taken.mark.take()
    taken.mark.settle(4)
    start = die(taken)
    (tmp_path / "spool.db").unlink()
    if garbage is not None:
        (tmp_path / "spool.db").write_bytes(garbage)
    assert begin(tmp_path).gaps == (Gap(start, 1, 3, Cause.SPOOL_LOST),)


def test_refused_events_without_settled_gap_are_told_again(tmp_path: Path) -> None:
    """Neighbours share one gap; the rows go in the same commit."""
    taken = begin(tmp_path)
    lines = [Line(taken.ordinal, taken.mark.take(), b"{}") for _ in range(3)]
    taken.spool.append(lines)
    taken.mark.settle(4)
    taken.spool.finish((taken.ordinal, 3), lines[1:])
    start = die(taken)
    again = begin(tmp_path)
    assert again.gaps == (Gap(start, 2, 3, Cause.REFUSED),)
    assert again.spool.refused() == []


def test_mark_file_is_of_the_new_start(tmp_path: Path) -> None:
    """After a take-over the folder belongs to the new start alone."""
    die(begin(tmp_path))
    again = begin(tmp_path)
    assert list(again.spool.starts())[-1] == again.mark.gateway_start


def journal(taken: Takeover, folder: Path, *sequences: int) -> None:
    """Write what a durable start has on disk when it dies."""
    written = Journal(folder, taken.mark.gateway_start, 1024 * 1024)
    for sequence in sequences:
        written.append(to_record(sequence, b'{"sequence":%d}' % sequence), sequence)


def spooled(taken: Takeover) -> list[tuple[int, int, bool]]:
    found = taken.spool.oldest((0, 0), 1000, 1_000_000)
    return [(line.start, line.sequence, line.resent) for line in found]


def test_what_died_in_memory_is_in_the_journal(tmp_path: Path) -> None:
    """Only what is in neither is a gap; the rest is sent on, marked as perhaps sent before."""
    first = begin(tmp_path)
    for _ in range(9):
        first.mark.take()
    first.mark.settle(3)
    first.spool.append([Line(1, 4, b"with outcome")])
    journal(first, tmp_path, 1, 2, 3, 4, 6, 7)
    start = die(first)
    second = begin(tmp_path)
    assert second.gaps == (
        Gap(start, 5, 5, Cause.CRASH),
        Gap(start, 8, 9, Cause.CRASH),
    )
    assert (second.recovered, second.spool.count) == (4, 6)
    assert spooled(second) == [(1, 3, True), (1, 4, True), (1, 6, True), (1, 7, True)]
    assert second.spool.oldest((1, 3), 1, 10**6)[0].body == b"with outcome"
    assert not list(tmp_path.glob("journal.*"))


def test_journal_of_a_start_that_is_accounted_for_is_ignored(tmp_path: Path) -> None:
    """A process killed between taking over and removing the files tells nothing twice."""
    first = begin(tmp_path)
    first.mark.take()
    die(first)
    second = begin(tmp_path)
    second.spool.finish((2, 99))
    journal(first, tmp_path, 1)
    die(second)
    assert begin(tmp_path).recovered == 0


def test_journal_ahead_of_the_mark(tmp_path: Path) -> None:
    """A power cut may set the mark back; what the journal has beyond it counts."""
    first = begin(tmp_path)
    journal(first, tmp_path, 1, 2, 4)
    start = die(first)
    second = begin(tmp_path)
    assert second.gaps == (Gap(start, 3, 3, Cause.CRASH),)
    assert second.recovered == 3


@pytest.mark.parametrize("lost", ["spool.db", "mark"])
def test_journal_outlives_spool_and_mark(lost: str, tmp_path: Path) -> None:
    """Whichever other file is lost, what was answered for is sent."""
    first = begin(tmp_path)
    for _ in range(3):
        first.mark.take()
    journal(first, tmp_path, 1, 3)
    start = die(first)
    for path in tmp_path.glob(lost + "*"):
        path.write_bytes(b"garbage" * 999)
    second = begin(tmp_path)
    assert [gap.gateway_start for gap in second.gaps] == [start]
    assert second.recovered == 2
    assert second.starts[spooled(second)[0][0]] == start


def test_spool_at_its_bound_takes_the_journal(tmp_path: Path) -> None:
    """What was answered for is kept beyond the bound rather than lost."""
    options = EmitterOptions("http://127.0.0.1:1/events", tmp_path, spool_max_bytes=64 * 1024)
    taken = take_over(options, time.time, lambda: str(uuid_utils.uuid7()))
    OPEN.append(taken)
    with suppress(sqlite3.OperationalError):
        for sequence in range(1, 1000):
            taken.mark.take()
            taken.spool.append([Line(1, sequence, b"x" * 500)])
    count = taken.spool.count
    written = Journal(tmp_path, taken.mark.gateway_start, 1024 * 1024)
    for sequence in range(count + 1, count + 301):
        taken.mark.take()
        written.append(to_record(sequence, b"y" * 900), sequence)
    die(taken)
    again = take_over(options, time.time, lambda: str(uuid_utils.uuid7()))
    OPEN.append(again)
    assert again.recovered == count + 300


def test_a_power_cut_is_told_as_an_upper_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark on the disk is older than the calls that were answered: none of them is left out."""
    first = begin(tmp_path)
    for _ in range(10):
        first.mark.take()
    first.mark.sync()
    page = (tmp_path / "mark").read_bytes()  # what the kernel had written
    for _ in range(500):
        first.mark.take()
    first.spool.close()
    (tmp_path / "mark").write_bytes(page)
    (tmp_path / "boot").write_text("11111111-2222-4333-8444-555555555555")
    monkeypatch.setattr("extauthz.emitter.mark._BOOT", tmp_path / "boot")
    second = begin(tmp_path)
    [gap] = second.gaps
    assert (gap.first, gap.last, gap.cause) == (1, BLOCK, Cause.CRASH)
    assert gap.last >= 510
    assert second.previous
    assert second.previous.next_sequence == BLOCK + 1

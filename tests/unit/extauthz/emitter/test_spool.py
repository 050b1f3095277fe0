import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from extauthz.core.errors import Invalid
from extauthz.core.events import Cause
from extauthz.emitter.entries import Gap, Line
from extauthz.emitter.spool import Spool, open_spool

ALL = (1000, 1_000_000)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.db", 1024 * 1024)
    spool.begin("start-1", [])
    yield spool
    spool.close()


def lines(start: int, *sequences: int, size: int = 10) -> list[Line]:
    return [Line(start, sequence, b"x" * size) for sequence in sequences]


def test_events_leave_in_order_of_sequence(spool: Spool) -> None:
    """What was appended later with lower sequences still leaves first."""
    spool.append(lines(1, 4, 5))
    spool.append(lines(1, 2, 3))
    assert [line.sequence for line in spool.oldest((0, 0), *ALL)] == [2, 3, 4, 5]
    assert [line.sequence for line in spool.oldest((1, 3), *ALL)] == [4, 5]


def test_batch_is_bounded_by_bytes_but_for_the_first(spool: Spool) -> None:
    """One large event leaves alone."""
    spool.append(lines(1, 1, size=500) + lines(1, 2, 3))
    assert [line.sequence for line in spool.oldest((0, 0), 10, 100)] == [1]
    assert [line.sequence for line in spool.oldest((1, 1), 10, 100)] == [2, 3]


def test_finish_removes_all_but_the_refused(spool: Spool) -> None:
    """A refused event stays until its gap is settled, and is not sent again."""
    spool.append(lines(1, 1, 2, 3, 4))
    spool.finish((1, 3), lines(1, 2))
    assert spool.count == 1
    assert [line.sequence for line in spool.oldest((0, 0), *ALL)] == [4]
    assert spool.refused() == [Gap("start-1", 2, 2, Cause.REFUSED)]
    spool.forget(Gap("start-1", 2, 2, Cause.REFUSED))
    assert spool.refused() == []


def test_full_spool_takes_all_or_nothing(spool: Spool) -> None:
    """The bound is the database's size; what does not fit leaves no part behind."""
    spool.append(lines(1, *range(1, 401), size=2000))
    with pytest.raises(sqlite3.OperationalError, match="full"):
        spool.append(lines(1, *range(401, 801), size=2000))
    assert spool.count == 400
    assert spool.bytes <= 1024 * 1024
    spool.finish((1, 400))
    spool.append(lines(1, *range(401, 801), size=2000))
    assert spool.count == 400


def test_full_spool_still_tells_what_was_lost(tmp_path: Path) -> None:
    """A start writes its gaps even where the previous one filled the spool."""
    spool = Spool(tmp_path / "spool.db", 64 * 1024)
    spool.begin("start-1", [])
    with suppress(sqlite3.OperationalError):
        for sequence in range(1, 10_000):
            spool.append(lines(1, sequence, size=100))
    count = spool.count
    assert 0 < count < 9_999
    assert spool.begin("start-2", [b"gap"] * 20) == 2
    assert spool.count == count + 20
    spool.close()


def test_events_of_earlier_starts_come_first_and_are_resent(spool: Spool) -> None:
    """Nobody knows which of them ingest has; batches never mix starts."""
    spool.append(lines(1, 7))
    spool.begin("start-2", [b"gap"])
    first = spool.oldest((0, 0), *ALL)
    assert [(line.start, line.sequence, line.resent) for line in first] == [(1, 7, True)]
    second = spool.oldest((1, 7), *ALL)
    assert [(line.start, line.sequence, line.resent) for line in second] == [(2, 1, False)]


def test_spool_outlives_its_process(tmp_path: Path) -> None:
    """Counts and events are there again after reopening."""
    first, fault = open_spool(tmp_path / "deep" / "spool.db", 1024 * 1024)
    first.begin("start-1", [])
    first.append(lines(1, 1, 2))
    first.close()
    again, fault_again = open_spool(tmp_path / "deep" / "spool.db", 1024 * 1024)
    assert (fault, fault_again, again.count) == ("", "", 2)
    assert not again.starts()["start-1"].closed
    again.begin("start-2", [])
    assert again.starts()["start-1"].closed
    again.close()


@pytest.mark.parametrize("garbage", [b"not a database" * 1000, b"\0" * 100])
def test_unreadable_spool_is_set_aside(tmp_path: Path, garbage: bytes) -> None:
    """A start never fails for what an earlier one left: it keeps the file and begins anew."""
    (tmp_path / "spool.db").write_bytes(garbage)
    spool, fault = open_spool(tmp_path / "spool.db", 1024 * 1024)
    assert fault
    assert spool.count == 0
    assert (tmp_path / "spool.db.unreadable-1").read_bytes() == garbage
    spool.close()


def test_damaged_spool_is_set_aside(tmp_path: Path) -> None:
    """Pages overwritten in the middle are found when opening."""
    spool, _ = open_spool(tmp_path / "spool.db", 1024 * 1024)
    spool.begin("start-1", [])
    spool.append(lines(1, *range(1, 200), size=500))
    spool.close()
    with (tmp_path / "spool.db").open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 8192)
    spool, fault = open_spool(tmp_path / "spool.db", 1024 * 1024)
    assert fault
    assert spool.starts() == {}
    spool.close()


def test_what_was_set_aside_before_is_kept(tmp_path: Path) -> None:
    """A second damage does not overwrite what is left of the first."""
    for garbage in (b"first " * 1000, b"second " * 1000):
        (tmp_path / "spool.db").write_bytes(garbage)
        spool, _ = open_spool(tmp_path / "spool.db", 1024 * 1024)
        spool.close()
    assert (tmp_path / "spool.db.unreadable-1").read_bytes().startswith(b"first ")
    assert (tmp_path / "spool.db.unreadable-2").read_bytes().startswith(b"second ")


def set_layout(path: Path, version: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


def test_a_spool_of_another_release_stops_the_start(tmp_path: Path) -> None:
    """What waits in it is neither lost nor read wrongly; the release that wrote it sends it."""
    spool, _ = open_spool(tmp_path / "spool.db", 1024 * 1024)
    ordinal = spool.begin("start-1", [])
    spool.append(lines(ordinal, 1, 2, 3))
    spool.close()
    set_layout(tmp_path / "spool.db", 2)
    for _ in range(2):
        with pytest.raises(Invalid, match=r"SPOOL_DIR: .* has layout `2`.*; run the release"):
            open_spool(tmp_path / "spool.db", 1024 * 1024)
    set_layout(tmp_path / "spool.db", 1)
    spool, fault = open_spool(tmp_path / "spool.db", 1024 * 1024)
    assert (fault, spool.count) == ("", 3)
    spool.close()


def test_a_disk_that_fails_for_a_while_costs_no_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start stops; the spool stays where it is for the next one."""
    spool, _ = open_spool(tmp_path / "spool.db", 1024 * 1024)
    spool.append(lines(spool.begin("start-1", []), 1))
    spool.close()

    def failing(spool: Spool) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "_measure", failing)
        with pytest.raises(Invalid, match=r"SPOOL_DIR: .* cannot be used \(disk I/O error\)"):
            open_spool(tmp_path / "spool.db", 1024 * 1024)
    spool, fault = open_spool(tmp_path / "spool.db", 1024 * 1024)
    assert (fault, spool.count) == ("", 1)
    spool.close()


def test_second_process_is_told_to_take_its_own_folder(tmp_path: Path, spool: Spool) -> None:
    """One spool, one process."""
    with pytest.raises(Invalid, match=r"SPOOL_DIR: .* in use by another process; give each"):
        open_spool(tmp_path / "spool.db", 1024 * 1024)
    assert spool.count == 0


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The setting, the value and the mend."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid, match=r"SPOOL_DIR: `.*file` cannot be used .*; name a folder"):
        open_spool(tmp_path / "file" / "spool.db", 1024 * 1024)


def test_spool_must_fit_its_volume(tmp_path: Path) -> None:
    """The start stops with the setting, the value and the mend."""
    with pytest.raises(Invalid, match=r"SPOOL_MAX_BYTES: `1152921504606846976` .*; set at most"):
        open_spool(tmp_path / "spool.db", 2**60)

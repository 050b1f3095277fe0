from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from extauthz.core.errors import Invalid
from extauthz.emitter.mark import BLOCK, Mark, MarkReading, read_mark

START = "01a20475-26a5-7564-a6a4-fc3f27d1a012"


def test_reading_shows_what_was_stored_without_close(tmp_path: Path) -> None:
    """Counters can be read from the file while, and after, a process holds them."""
    mark = Mark(tmp_path / "mark", START)
    assert [mark.take(), mark.take(), mark.take()] == [1, 2, 3]
    mark.settle(2)
    assert read_mark(tmp_path / "mark") == MarkReading(START, 4, 2)


def test_new_mark_counts_all_before_as_settled(tmp_path: Path) -> None:
    """A mark that begins at 5 has nothing open below 5."""
    Mark(tmp_path / "mark", START, 5)
    assert read_mark(tmp_path / "mark") == MarkReading(START, 5, 5)


def test_new_mark_leaves_the_old_mapping_alone(tmp_path: Path) -> None:
    """A mark replaces the file, never what another has mapped."""
    old = Mark(tmp_path / "mark", START)
    Mark(tmp_path / "mark", START, 9)
    old.take()
    assert read_mark(tmp_path / "mark") == MarkReading(START, 9, 9)


def test_no_file_is_no_reading(tmp_path: Path) -> None:
    """A first start has no mark, and that is no fault."""
    assert read_mark(tmp_path / "mark") is None


@pytest.mark.parametrize("cut", [0, 1, 40, 4095])
def test_torn_mark_is_invalid(tmp_path: Path, cut: int) -> None:
    """A file that is too short is refused, wherever it was cut."""
    Mark(tmp_path / "mark", START).close()
    (tmp_path / "mark").write_bytes((tmp_path / "mark").read_bytes()[:cut])
    with pytest.raises(Invalid):
        read_mark(tmp_path / "mark")


@pytest.mark.parametrize("place", [0, 8, 23, 24, 40])
def test_foreign_or_flipped_mark_is_invalid(tmp_path: Path, place: int) -> None:
    """Magic, gateway_start and boot are under the checksum."""
    Mark(tmp_path / "mark", START).close()
    page = bytearray((tmp_path / "mark").read_bytes())
    page[place] ^= 1
    (tmp_path / "mark").write_bytes(page)
    with pytest.raises(Invalid):
        read_mark(tmp_path / "mark")


def test_settled_beyond_next_is_invalid(tmp_path: Path) -> None:
    """Counters that contradict each other are garbage."""
    mark = Mark(tmp_path / "mark", START)
    mark.settle(7)
    with pytest.raises(Invalid, match="settled `7` lies beyond next `1`"):
        read_mark(tmp_path / "mark")


@pytest.fixture
def cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], MarkReading]:
    """What is read of a page that was on the disk when the power went."""

    def read(page: bytes) -> MarkReading:
        (tmp_path / "mark").write_bytes(page)
        (tmp_path / "boot").write_text(str(uuid4()))
        with monkeypatch.context() as patch:
            patch.setattr("extauthz.emitter.mark._BOOT", tmp_path / "boot")
            reading = read_mark(tmp_path / "mark")
        assert reading
        return reading

    return read


def test_after_a_power_cut_all_that_was_reserved_may_have_been_taken(
    tmp_path: Path, cut: Callable[[bytes], MarkReading]
) -> None:
    """However old the page on the disk is, what was taken lies below the bound."""
    mark = Mark(tmp_path / "mark", START)
    for _ in range(10):
        mark.take()
    mark.sync()
    page = (tmp_path / "mark").read_bytes()
    for _ in range(500):
        mark.take()
    assert cut(page).next_sequence == BLOCK + 1 > mark.next_sequence


def test_more_is_reserved_before_it_is_taken(
    tmp_path: Path, cut: Callable[[bytes], MarkReading], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody reserves in time, taking does."""
    mark = Mark(tmp_path / "mark", START)
    pages: list[bytes] = []
    reserve = Mark.reserve

    def kept(mark: Mark) -> None:
        reserve(mark)
        pages.append((tmp_path / "mark").read_bytes())

    monkeypatch.setattr(Mark, "reserve", kept)
    for _ in range(BLOCK):
        mark.take()
    assert mark.is_short
    assert pages == []
    mark.take()
    assert not mark.is_short
    assert [cut(page).next_sequence for page in pages] == [2 * BLOCK + 1]


def test_after_a_clean_end_nothing_more_is_reserved(
    tmp_path: Path, cut: Callable[[bytes], MarkReading]
) -> None:
    """A machine that was shut down in order lost nothing."""
    mark = Mark(tmp_path / "mark", START)
    mark.take()
    mark.close()
    assert cut((tmp_path / "mark").read_bytes()).next_sequence == 2

import errno
import os
from pathlib import Path

import pytest

from extauthz.emitter.journal import Journal, read_journal, remove_journal, to_record

START = "01a20475-26a6-753e-b4fc-0347a65bc4de"


@pytest.fixture
def written(tmp_path: Path) -> Journal:
    return Journal(tmp_path, START, 1024 * 1024)


def put(written: Journal, *sequences: int, size: int = 10) -> None:
    records = b"".join(to_record(sequence, b"x" * size) for sequence in sequences)
    written.append(records, sequences[-1])


def sequences(folder: Path) -> list[int]:
    return [sequence for left in read_journal(folder) for sequence, _ in left.events]


def test_what_is_written_is_read(written: Journal, tmp_path: Path) -> None:
    """Sequences and bodies of a start, in order, also of a process that closed nothing."""
    written.append(to_record(1, b"one") + to_record(2, b"two"), 2)
    written.append(to_record(4, b"four"), 4)
    [left] = read_journal(tmp_path)
    assert left.gateway_start == START
    assert left.events == [(1, b"one"), (2, b"two"), (4, b"four")]


def test_files_go_when_all_in_them_is_settled(tmp_path: Path) -> None:
    """A file is removed as a whole, the one under way when it is closed."""
    written = Journal(tmp_path, START, 8000)
    for sequence in range(1, 31):
        put(written, sequence, size=100)
    count = len(list(tmp_path.iterdir()))
    assert count > 3
    written.trim(20)
    left = sequences(tmp_path)
    assert left == list(range(left[0], 31))
    assert 20 - 9 <= left[0] <= 20
    assert written.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    written.close()
    written.trim(31)
    assert list(tmp_path.iterdir()) == []
    assert written.bytes == 0


def test_bound_is_an_error_like_a_full_disk(written: Journal, tmp_path: Path) -> None:
    """What does not fit leaves no part behind."""
    put(written, 1, size=1024 * 1000)
    with pytest.raises(OSError, match="has its `1048576` bytes"):
        put(written, 2, size=1024 * 1000)
    assert sequences(tmp_path) == [1]


@pytest.mark.parametrize("fault", ["pwrite", "fdatasync"])
def test_failed_write_counts_for_nothing(
    fault: str, written: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a group, or a whole one that may not be on disk, is cut off; the next file works."""
    real = os.pwrite

    def half(descriptor: int, content: memoryview, place: int) -> int:
        if len(content) < 50:
            raise OSError(errno.ENOSPC, "no room")
        return real(descriptor, content[: len(content) // 2], place)

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    put(written, 1)
    with monkeypatch.context() as failing:
        failing.setattr(os, fault, half if fault == "pwrite" else fail)
        with pytest.raises(OSError, match=r"no room|broken"):
            put(written, 2, 3, size=200)
    put(written, 4)
    assert sequences(tmp_path) == [1, 4]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("cut", range(1, 27))
def test_torn_end_costs_what_is_torn(cut: int, written: Journal, tmp_path: Path) -> None:
    """Wherever a power cut ends the file, all before the last record is read."""
    put(written, 1, 2, 3)
    [path] = tmp_path.iterdir()
    os.truncate(path, 24 + 3 * (16 + 10) - cut)
    assert sequences(tmp_path) == [1, 2]


@pytest.mark.parametrize("end", [b"\0" * 4096, b"garbage" * 9])
def test_garbage_at_the_end_is_no_event(end: bytes, written: Journal, tmp_path: Path) -> None:
    """Blocks that a power cut left unwritten, or of another file."""
    put(written, 1, 2)
    [path] = tmp_path.iterdir()
    os.truncate(path, 24 + 2 * (16 + 10))
    path.write_bytes(path.read_bytes() + end)
    assert sequences(tmp_path) == [1, 2]


@pytest.mark.parametrize("place", [30, 60, 66])
def test_flipped_bit_ends_the_file(place: int, written: Journal, tmp_path: Path) -> None:
    """A record that is not what was written is never handed on."""
    put(written, 1, 2)
    [path] = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    assert sequences(tmp_path) == ([] if place < 50 else [1])


@pytest.mark.parametrize("content", [b"", b"SNTJRNL1", b"SQLite format 3" * 9])
def test_file_without_a_head_holds_nothing(content: bytes, tmp_path: Path) -> None:
    """A process killed as it made the file, or a foreign file; both are removed in the end."""
    (tmp_path / "journal.00000001").write_bytes(content)
    assert read_journal(tmp_path) == []
    remove_journal(tmp_path)
    assert list(tmp_path.iterdir()) == []

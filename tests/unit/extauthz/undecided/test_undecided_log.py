"""The undecided log as a file: whole lines, holes, other files in its place."""

import os
from pathlib import Path

import pytest

from extauthz.undecided.log import CHUNK_BYTES, Chunk, Replaced, UndecidedLog
from extauthz.undecided.position import Bookmark, Loss, Position

MIB = 1024 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "undecided.jsonl"


def append(path: Path, data: bytes) -> None:
    """As Envoy does: opened for appending."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, data)
    os.close(file)


def behind(chunk: Chunk) -> Position:
    return Position(offset=chunk.offset, tail=chunk.tail, digest=chunk.digest, at=1.0)


def bodies(chunk: Chunk | None) -> list[bytes]:
    assert chunk is not None
    return [record.body for record in chunk.records]


def test_no_file_yet(path: Path) -> None:
    """A file that is not there, or empty, has nothing to tell, and is found when it comes."""
    log = UndecidedLog(path)
    assert log.read(Position()) is None
    assert (log.size(), log.disk_bytes()) == (0, 0)
    append(path, b"")
    assert log.read(Position()) is None
    append(path, b'{"a":1}\n')
    assert bodies(log.read(Position())) == [b'{"a":1}']


def test_a_torn_line_waits(path: Path) -> None:
    """What has no line end yet is read with its rest."""
    log = UndecidedLog(path)
    append(path, b'{"a":1}\n{"b"')
    chunk = log.read(Position())
    assert bodies(chunk) == [b'{"a":1}']
    assert chunk is not None
    assert log.read(behind(chunk)) is None
    append(path, b":2}\n\n")
    rest = log.read(behind(chunk))
    assert rest is not None
    assert [(each.offset, each.body) for each in rest.records] == [(8, b'{"b":2}')]
    assert rest.offset == path.stat().st_size


def test_a_line_behind_a_torn_one_is_whole(path: Path) -> None:
    """A line that Envoy did not finish does not swallow the next; quotes inside are no begin."""
    append(path, b'{"a":"x{\\"y\n{"b"{"c":"{\\"d\\":1}"}\n')
    chunk = UndecidedLog(path).read(Position())
    assert bodies(chunk) == [b'{"a":"x{\\"y', b'{"b"', b'{"c":"{\\"d\\":1}"}']
    assert chunk is not None
    data = path.read_bytes()
    assert all(data[each.offset :].startswith(each.body) for each in chunk.records)


def test_a_string_that_ends_in_a_brace_tears_no_line(path: Path) -> None:
    """A caller's header may end in `{`: the line stays one line."""
    lines = [b'{"peer":"{","traceparent":"{"}', b'{"a":"{\\"b\\":{"}']
    append(path, b"".join(line + b"\n" for line in lines))
    assert bodies(UndecidedLog(path).read(Position())) == lines


def test_a_line_without_end_is_bounded(path: Path) -> None:
    """More than a chunk without a line end is read as it is, and what follows too."""
    append(path, b"x" * CHUNK_BYTES + b'\n{"a":1}\n')
    log = UndecidedLog(path)
    first = log.read(Position())
    assert bodies(first) == [b"x" * CHUNK_BYTES]
    assert first is not None
    assert bodies(log.read(behind(first))) == [b'{"a":1}']


def test_what_was_read_takes_no_disk(path: Path) -> None:
    """The hole frees the disk, offsets stay, and a reader without a position finds its end."""
    lines = [b'{"a":"%s"}\n' % (b"x" * 40_000) for _ in range(60)]
    append(path, b"".join(lines))
    log, position = UndecidedLog(path), Position()
    while chunk := log.read(position):
        position = behind(chunk)
        log.release(position)
    assert position.offset == path.stat().st_size
    assert log.disk_bytes() < MIB + CHUNK_BYTES
    append(path, b'{"b":1}\n')
    assert bodies(log.read(position)) == [b'{"b":1}']
    fresh = UndecidedLog(path).read(Position())
    assert bodies(fresh)[0].startswith(b'{"a"')


def test_a_file_of_others_is_left_alone(path: Path) -> None:
    """Where no line could be read, nothing is removed."""
    append(path, b"something else\n" * 200_000)
    log, position = UndecidedLog(path), Position()
    while chunk := log.read(position):
        position = Position(offset=chunk.offset, tail=chunk.tail, digest=chunk.digest)
        log.release(position)
    assert path.read_bytes() == b"something else\n" * 200_000


@pytest.mark.parametrize("content", [b"", b'{"c":1}\n', b'{"c":1}\n' * 9])
def test_a_cut_file_is_noticed(path: Path, content: bytes) -> None:
    """Shorter, or with other content where the last line stood."""
    append(path, b'{"a":1}\n{"b":1}\n')
    log = UndecidedLog(path)
    chunk = log.read(Position())
    assert chunk is not None
    path.write_bytes(content)
    with pytest.raises(Replaced) as caught:
        log.read(behind(chunk))
    assert not caught.value.finished
    chunk = log.read(Position())
    assert (bodies(chunk) if chunk else []) == content.splitlines()


def test_a_renamed_file_is_read_to_its_end(path: Path) -> None:
    """Envoy may go on writing there; the new file's turn comes when it writes to that one."""
    append(path, b'{"a":1}\n')
    log = UndecidedLog(path)
    chunk = log.read(Position())
    assert chunk is not None
    moved = path.rename(path.with_suffix(".1"))
    append(path, b"")
    append(moved, b'{"b":1}\n{"c"')
    chunk = log.read(behind(chunk))
    assert bodies(chunk) == [b'{"b":1}']
    assert chunk is not None
    assert log.read(behind(chunk)) is None
    append(path, b'{"d":1}\n')
    chunk = log.read(behind(chunk))
    assert bodies(chunk) == [b'{"c"']
    assert chunk is not None
    with pytest.raises(Replaced) as caught:
        log.read(behind(chunk))
    assert caught.value.finished
    assert bodies(log.read(Position())) == [b'{"d":1}']


def test_another_file_with_the_same_inode(path: Path) -> None:
    """The last line read tells files apart: inodes come again."""
    append(path, b'{"a":1}\n{"b":1}\n')
    chunk = UndecidedLog(path).read(Position())
    assert chunk is not None
    path.unlink()
    append(path, b'{"x":1}\n{"y":1}\n')
    with pytest.raises(Replaced):
        UndecidedLog(path).read(behind(chunk))


class TestBookmark:
    def test_what_is_stored_is_loaded(self, tmp_path: Path) -> None:
        """A position survives, with what is still to be told."""
        position = Position("log", 5, 3, 1, "d", 2.5, (Loss("log", 1, 2, "c"),))
        Bookmark(tmp_path / "p").store(position)
        assert Bookmark(tmp_path / "p").load() == position

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"losses": [], "x": 1}', "\0" * 50])
    def test_an_unreadable_one_is_the_beginning(self, tmp_path: Path, text: str) -> None:
        """All lines are read anew; the store knows the copies."""
        (tmp_path / "p").write_text(text)
        assert Bookmark(tmp_path / "p").load() == Position()


def test_losses_that_follow_each_other_are_one() -> None:
    """A loss grows; another cause, log or a hole between begins another."""
    position = Position().losing(Loss("l", 1, 2, "a"), Loss("l", 3, 9, "a"))
    assert position.losses == (Loss("l", 1, 9, "a"),)
    others = (Loss("l", 10, 10, "b"), Loss("m", 11, 11, "b"), Loss("m", 13, 13, "b"))
    assert position.losing(*others).losses == (Loss("l", 1, 9, "a"), *others)

"""The log over an exported file."""

from pathlib import Path

import pytest

from backend.adapters.file_log import FileLog
from backend.ports.event_log import Assignment, Message, Record
from extauthz.core.errors import Invalid


class Owner:
    def __init__(self) -> None:
        self.assignments: list[Assignment] = []
        self.revocations = 0

    async def assigned(self, assignment: Assignment) -> None:
        self.assignments.append(assignment)

    async def revoked(self) -> None:
        self.revocations += 1


async def read_all(log: FileLog, most: int = 2) -> list[Record]:
    consumer, records = log.consumer("replay-1"), []
    await consumer.start(Owner())
    while fetched := await consumer.fetch(most, 0):
        records += fetched
    await consumer.stop()
    return records


async def opened(path: Path, content: bytes) -> FileLog:
    path.write_bytes(content)
    log = FileLog(path)
    await log.start()
    return log


async def test_offsets_are_line_numbers(tmp_path: Path) -> None:
    """From 1, blank lines counted and left out; a last line needs no end."""
    log = await opened(tmp_path / "a.ndjson", b'{"a":1}\r\n\n \n{"b":2}\n{"c":3}')
    records = await read_all(log)
    assert [(r.position.offset, r.value) for r in records] == [
        (1, b'{"a":1}'),
        (4, b'{"b":2}'),
        (5, b'{"c":3}'),
    ]
    assert {r.position.topic_id for r in records} == {log.topic_id}


async def test_the_same_content_is_the_same_log(tmp_path: Path) -> None:
    """Under another name too, so that a replay goes on; one byte more makes another log."""
    one = await opened(tmp_path / "a", b"{}\n")
    same = await opened(tmp_path / "b", b"{}\n")
    other = await opened(tmp_path / "c", b"{}\n ")
    assert one.topic_id == same.topic_id != other.topic_id


async def test_lag_counts_down_to_nothing(tmp_path: Path) -> None:
    """Events that are not committed yet; every reading begins at the first line."""
    log = await opened(tmp_path / "a", b"{}\n\n{}\n{}\n")
    consumer, owner = log.consumer("replay-1"), Owner()
    await consumer.start(owner)
    assert await consumer.lag() == 3
    first, second = await consumer.fetch(2, 0)
    await consumer.commit([second.position, first.position])
    assert await consumer.lag() == 1
    await consumer.stop()
    assert [each.committed for each in owner.assignments] == [0]
    assert owner.revocations == 1
    assert len(await read_all(log)) == 3


async def test_it_can_only_be_read(tmp_path: Path) -> None:
    """An append is refused."""
    log = await opened(tmp_path / "a", b"")
    assert await read_all(log) == []
    with pytest.raises(Invalid, match="only be read"):
        await log.append([Message(b"{}")])


async def test_what_is_no_such_file_is_named(tmp_path: Path) -> None:
    """A missing file, a folder, and one with a line of no end."""
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(Invalid, match=str(path)):
            await FileLog(path).start()
    with pytest.raises(Invalid, match="line 2 "):
        await opened(tmp_path / "zeros", b"{}\n" + bytes(17 << 20))

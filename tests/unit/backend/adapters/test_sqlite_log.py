"""What the SQLite log does beyond its contract: bounds, retention, its file."""

import asyncio
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from backend.adapters.sqlite_log import SqliteLog
from backend.ports.event_log import Assignment, DeadLetter, Message, Position, Record
from extauthz.core.errors import Busy, Conflict, Invalid, Retryable

NewLog = Callable[..., SqliteLog]


class Nobody:
    async def assigned(self, assignment: Assignment) -> None: ...

    async def revoked(self) -> None: ...


async def append_for_ever(log: SqliteLog, chunk: list[Message]) -> None:
    while True:
        await log.append(chunk)


async def test_a_full_log_is_busy_until_what_was_read_may_go(new_log: NewLog) -> None:
    """At its size the log refuses; once the group has committed, the space is used again."""
    log = new_log(max_bytes=1 << 20)
    await log.start()
    consumer = log.consumer("g")
    await consumer.start(Nobody())
    chunk = [Message(b"x" * 100_000)]
    with pytest.raises(Busy, match="full"):
        await append_for_ever(log, chunk)
    records = await consumer.fetch(100, 0)
    assert 5 <= len(records) <= 10
    await consumer.commit([records[-1].position])
    await log.append(chunk)
    after = await consumer.fetch(100, 0)
    assert [r.position.offset for r in after] == [records[-1].position.offset + 1]
    await consumer.stop()
    await log.stop()


async def test_an_oversized_queue_is_busy(new_log: NewLog) -> None:
    """Appends that wait for the disk are bounded; a single large one is not refused."""
    log = new_log(max_waiting_bytes=10)
    await log.start()
    first = log.append([Message(b"x" * 100)])
    running = asyncio.ensure_future(first)
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await log.append([Message(b"y")])
    await running
    await log.append([Message(b"y")])
    await log.stop()


async def test_retention_spares_what_is_young_or_unread(tmp_path: Path) -> None:
    """A record goes when every group has committed it and it is old enough."""
    now = 1_000.0
    log = SqliteLog(tmp_path / "log.db", clock=lambda: now, retention_seconds=3600)
    await log.start()
    consumer = log.consumer("g")
    await consumer.start(Nobody())
    await log.append([Message(b"old"), Message(b"unread")])
    old, _ = await consumer.fetch(2, 0)
    now += 3600
    await log.append([Message(b"young")])
    await consumer.commit([old.position])
    with sqlite3.connect(tmp_path / "log.db") as reader:
        kept = [value for (value,) in reader.execute("SELECT value FROM records ORDER BY offset")]
    assert kept == [b"unread", b"young"]
    await consumer.stop()
    await log.stop()


async def test_a_dead_letter_is_kept_once(log: SqliteLog, tmp_path: Path) -> None:
    """The same position twice leaves one row, with the reason."""
    letter = DeadLetter(Record(Position(uuid4(), 0, 7), b"junk"), "not JSON")
    await log.dead_letter([letter])
    await log.dead_letter([letter])
    with sqlite3.connect(tmp_path / "log.db") as reader:
        rows = reader.execute("SELECT offset, value, why FROM dead_letters").fetchall()
    assert rows == [(7, b"junk", "not JSON")]


async def test_a_group_has_one_consumer(log: SqliteLog, new_log: NewLog) -> None:
    """A second consumer of the group is refused; one of another group is not."""
    consumer = log.consumer("g")
    await consumer.start(Nobody())
    with pytest.raises(Conflict, match="stop it first"):
        await log.consumer("g").start(Nobody())
    other = log.consumer("h")
    await other.start(Nobody())
    await other.stop()
    await consumer.stop()


@pytest.mark.usefixtures("log")
def test_the_file_is_private(tmp_path: Path) -> None:
    """Events tell who did what: nobody else on the machine may read them."""
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.glob("log.db*")}
    assert set(modes.values()) == {0o600}


async def test_a_foreign_file_is_refused(tmp_path: Path, new_log: NewLog) -> None:
    """A file that is no database stops the start, with the setting's name."""
    (tmp_path / "log.db").write_bytes(b"hello, I am somebody's letter\n" * 100)
    log = new_log()
    with pytest.raises(Invalid, match="EVENT_LOG_URL"):
        await log.start()
    await log.stop()


async def test_a_newer_file_is_refused(tmp_path: Path, new_log: NewLog) -> None:
    """A log of a later release is not touched."""
    with sqlite3.connect(tmp_path / "log.db") as connection:
        connection.execute("PRAGMA user_version=99")
    log = new_log()
    with pytest.raises(Invalid, match="newer release"):
        await log.start()
    await log.stop()


async def test_a_log_that_is_not_open_is_away(new_log: NewLog) -> None:
    """Using it before its start says so."""
    with pytest.raises(Retryable):
        await new_log().ping()

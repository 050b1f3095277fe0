"""EventLog in one SQLite file: durable and crash-safe, for one machine.

WAL with synchronous=FULL: an append that returned survives power loss. One
thread writes, in the order of the calls; consumers have their own connection.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from backend.adapters import sqlite_dead_letters
from backend.adapters.resent import resent
from backend.adapters.sqlite_consumer import SqliteConsumer
from backend.adapters.sqlite_file import Connection, connect, headers_out, transaction
from backend.ports.event_log import DeadLetter, Message, Position, SetAside
from extauthz.core.errors import Busy, Invalid

VERSION: Final = 1
SWEEP_SECONDS: Final = 60.0

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS topic (id TEXT NOT NULL);
-- AUTOINCREMENT: an offset is never used again, after its record was deleted either.
CREATE TABLE IF NOT EXISTS records (
    offset INTEGER PRIMARY KEY AUTOINCREMENT,
    value BLOB NOT NULL, key BLOB, headers BLOB NOT NULL, appended_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS groups (name TEXT PRIMARY KEY, next_offset INTEGER NOT NULL);
"""


class SqliteLog:
    """One topic of one partition.

    Args:
        path: the file; made with mode 0600.
        clock: seconds since the epoch.
        retention_seconds: how long a record is kept that every group has committed.
        max_bytes: size of the file at which appends are refused; 0 means no limit.
        max_waiting_bytes: appends that may wait for the disk.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float],
        retention_seconds: float,
        max_bytes: int = 0,
        max_waiting_bytes: int = 64 << 20,
    ) -> None:
        self.path = path
        self.topic_id = UUID(int=0)  # read from the file by `start`
        self._clock = clock
        self._retention_seconds, self._max_bytes = retention_seconds, max_bytes
        self._max_waiting_bytes, self._waiting_bytes = max_waiting_bytes, 0
        self._swept_at = 0.0
        self._writer = Connection("event-log-write")
        self.appended = asyncio.Event()  # set once, then replaced, at every append
        self.is_shared = False  # one process owns the only partition

    async def start(self) -> None:
        await self._writer.open(self._open)

    async def stop(self) -> None:
        await self._writer.close()

    async def append(self, messages: Sequence[Message]) -> None:
        size = sum(len(m.value) for m in messages)
        if self._waiting_bytes and self._waiting_bytes + size > self._max_waiting_bytes:
            raise Busy("too many events wait for the disk; send them again later")
        self._waiting_bytes += size
        try:
            await self._writer.run(lambda writer: self._insert(writer, messages))
        finally:
            self._waiting_bytes -= size
        self._tell_appended()

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        now = self._clock()
        await self._writer.run(lambda writer: sqlite_dead_letters.add(writer, letters, now))

    async def dead_letters(self, limit: int, after: Position | None = None) -> Sequence[SetAside]:
        return await self._writer.run(lambda writer: sqlite_dead_letters.some(writer, limit, after))

    async def dead_letter_at(self, position: Position) -> SetAside:
        return await self._writer.run(lambda writer: sqlite_dead_letters.one(writer, position))

    async def retry(self, position: Position) -> None:
        await self._writer.run(lambda writer: self._append_again(writer, position))
        self._tell_appended()

    async def drop(self, position: Position) -> None:
        await self._writer.run(lambda writer: self._drop(writer, position))

    async def commit(self, group: str, next_offset: int) -> None:
        """For its consumers: `group` is done with everything before `next_offset`."""
        await self._writer.run(lambda writer: self._commit(writer, group, next_offset))

    async def ping(self) -> None:
        await self._writer.run(lambda writer: writer.execute("SELECT id FROM topic").fetchone())

    def consumer(self, group: str) -> SqliteConsumer:
        return SqliteConsumer(self, group)

    def _tell_appended(self) -> None:
        self.appended.set()
        self.appended = asyncio.Event()

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            connection = connect(self.path)
            connection.execute("PRAGMA synchronous=FULL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        except (OSError, sqlite3.DatabaseError) as error:
            mend = "name a file on a local disk that this process may write"
            raise Invalid("EVENT_LOG_URL", f"`{self.path}` cannot be opened ({error})", mend) from (
                error
            )
        if version > VERSION:
            raise Invalid(
                "EVENT_LOG_URL", f"`{self.path}` was made by a newer release", "run that release"
            )
        if self._max_bytes:
            (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
            connection.execute(f"PRAGMA max_page_count={max(1, self._max_bytes // page_bytes)}")
        schema = _SCHEMA + sqlite_dead_letters.SCHEMA
        connection.executescript(f"BEGIN IMMEDIATE;{schema}PRAGMA user_version={VERSION};COMMIT;")
        connection.execute(
            "INSERT INTO topic SELECT ? WHERE NOT EXISTS (SELECT 1 FROM topic)", (str(uuid4()),)
        )
        (topic_id,) = connection.execute("SELECT id FROM topic").fetchone()
        self.topic_id = UUID(topic_id)
        return connection

    def _insert(self, writer: sqlite3.Connection, messages: Sequence[Message]) -> None:
        try:
            self._insert_once(writer, messages)
        except sqlite3.OperationalError as error:
            # Full: what every group has read may go before its time.
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._sweep(writer, 0):
                raise
            self._insert_once(writer, messages)

    def _insert_once(self, writer: sqlite3.Connection, messages: Sequence[Message]) -> None:
        with transaction(writer):
            self._insert_rows(writer, messages)

    def _insert_rows(self, writer: sqlite3.Connection, messages: Sequence[Message]) -> None:
        now = self._clock()
        rows = [(m.value, m.key, headers_out(m.headers), now) for m in messages]
        writer.executemany(
            "INSERT INTO records (value, key, headers, appended_at) VALUES (?, ?, ?, ?)", rows
        )

    def _append_again(self, writer: sqlite3.Connection, position: Position) -> None:
        with transaction(writer):
            letter = sqlite_dead_letters.one(writer, position).letter
            sqlite_dead_letters.remove(writer, position)
            self._insert_rows(writer, [resent(letter.record)])

    def _drop(self, writer: sqlite3.Connection, position: Position) -> None:
        with transaction(writer):
            sqlite_dead_letters.remove(writer, position)

    def _commit(self, writer: sqlite3.Connection, group: str, next_offset: int) -> None:
        with transaction(writer):
            writer.execute(
                "INSERT INTO groups VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE "
                "SET next_offset = max(next_offset, ?2)",
                (group, next_offset),
            )
        if self._clock() - self._swept_at >= SWEEP_SECONDS:
            self._sweep(writer, self._retention_seconds)

    def _sweep(self, writer: sqlite3.Connection, age_seconds: float) -> int:
        """Delete what every group has committed and is old enough; how many records."""
        self._swept_at = self._clock()
        with transaction(writer):
            return writer.execute(
                "DELETE FROM records WHERE offset < (SELECT min(next_offset) FROM groups)"
                " AND appended_at <= ?",
                (self._swept_at - age_seconds,),
            ).rowcount

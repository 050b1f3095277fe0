"""EventLog in one SQLite file: durable and crash-safe, for one machine.

WAL with synchronous=FULL: an append that returned survives power loss. One
thread writes, in the order of the calls; readers have their own connection.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID, uuid4

import orjson

from backend.ports import Assignment, DeadLetter, Headers, Message, Ownership, Position, Record
from extauthz.core.errors import Busy, Conflict, Invalid, Retryable

T = TypeVar("T")
VERSION: Final = 1
PARTITION: Final = 0
FETCH_BYTES: Final = 8 << 20  # a fetch ends past this many bytes
SWEEP_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.25  # how soon another process's append is seen

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS topic (id TEXT NOT NULL);
-- AUTOINCREMENT: an offset is never used again, after its record was deleted either.
CREATE TABLE IF NOT EXISTS records (
    offset INTEGER PRIMARY KEY AUTOINCREMENT,
    value BLOB NOT NULL, key BLOB, headers BLOB NOT NULL, appended_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS groups (name TEXT PRIMARY KEY, next_offset INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS dead_letters (
    topic_id TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
    value BLOB NOT NULL, headers BLOB NOT NULL, why TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (topic_id, partition, offset));
"""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise Busy("the event log is full; free disk space or raise its limit") from error
        raise Retryable(f"the event log cannot be used ({error})") from error
    except sqlite3.Error as error:
        raise Retryable(f"the event log cannot be used ({error})") from error


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
        self._writer: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._appended = asyncio.Event()  # set once, then replaced, at every append

    async def start(self) -> None:
        self._thread = ThreadPoolExecutor(1, "event-log-write")
        self._writer = await self._write(self._open)

    async def stop(self) -> None:
        if self._thread is None:
            return
        if self._writer is not None:
            await self._write(self._writer.close)
        self._thread.shutdown()
        self._thread = self._writer = None

    async def append(self, messages: Sequence[Message]) -> None:
        size = sum(len(m.value) for m in messages)
        if self._waiting_bytes and self._waiting_bytes + size > self._max_waiting_bytes:
            raise Busy("too many events wait for the disk; send them again later")
        self._waiting_bytes += size
        try:
            await self._write(self._insert, messages)
        finally:
            self._waiting_bytes -= size
        self._appended.set()
        self._appended = asyncio.Event()

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        await self._write(self._set_aside, letters)

    async def ping(self) -> None:
        await self._write(lambda: self._connection.execute("SELECT id FROM topic").fetchone())

    def consumer(self, group: str) -> "SqliteConsumer":
        return SqliteConsumer(self, group)

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._writer is None:
            raise Retryable("the event log is not open; start it first")
        return self._writer

    async def _write(self, work: Callable[..., T], *arguments: object) -> T:
        if self._thread is None:
            raise Retryable("the event log is not open; start it first")

        def translated() -> T:
            with _translated():
                return work(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self._thread, translated)

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            connection = _connect(self.path)
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
        connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version={VERSION};COMMIT;")
        connection.execute(
            "INSERT INTO topic SELECT ? WHERE NOT EXISTS (SELECT 1 FROM topic)", (str(uuid4()),)
        )
        (topic_id,) = connection.execute("SELECT id FROM topic").fetchone()
        self.topic_id = UUID(topic_id)
        return connection

    def _insert(self, messages: Sequence[Message]) -> None:
        try:
            self._insert_once(messages)
        except sqlite3.OperationalError as error:
            # Full: what every group has read may go before its time.
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._sweep(0):
                raise
            self._insert_once(messages)

    def _insert_once(self, messages: Sequence[Message]) -> None:
        now = self._clock()
        rows = [(m.value, m.key, _headers_out(m.headers), now) for m in messages]
        with _transaction(self._connection) as connection:
            connection.executemany(
                "INSERT INTO records (value, key, headers, appended_at) VALUES (?, ?, ?, ?)", rows
            )

    def _set_aside(self, letters: Sequence[DeadLetter]) -> None:
        now = self._clock()
        with _transaction(self._connection) as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        str(at.topic_id),
                        at.partition,
                        at.offset,
                        letter.record.value,
                        _headers_out(letter.record.headers),
                        letter.why,
                        now,
                    )
                    for letter in letters
                    for at in (letter.record.position,)
                ],
            )

    def _commit(self, group: str, next_offset: int) -> None:
        with _transaction(self._connection) as connection:
            connection.execute(
                "INSERT INTO groups VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE "
                "SET next_offset = max(next_offset, ?2)",
                (group, next_offset),
            )
        if self._clock() - self._swept_at >= SWEEP_SECONDS:
            self._sweep(self._retention_seconds)

    def _sweep(self, age_seconds: float) -> int:
        """Delete what every group has committed and is old enough; how many records."""
        self._swept_at = self._clock()
        with _transaction(self._connection) as connection:
            return connection.execute(
                "DELETE FROM records WHERE offset < (SELECT min(next_offset) FROM groups)"
                " AND appended_at <= ?",
                (self._swept_at - age_seconds,),
            ).rowcount


class SqliteConsumer:
    """Owns the whole partition; a file lock keeps other processes of the group out."""

    def __init__(self, log: SqliteLog, group: str) -> None:
        self._log, self._group = log, group
        self._next = self._committed = 0
        self._ownership: Ownership | None = None
        self._reader: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._lock: int | None = None

    async def start(self, ownership: Ownership) -> None:
        self._lock = self._take_lock()
        self._thread = ThreadPoolExecutor(1, "event-log-read")
        self._reader = await self._read(lambda: _connect(self._log.path))
        row = await self._read(self._one, "SELECT next_offset FROM groups WHERE name = ?")
        self._next = self._committed = row[0] if row else 0
        self._ownership = ownership
        await ownership.assigned(Assignment(self._log.topic_id, PARTITION, self._committed))

    async def fetch(self, most: int, wait_seconds: float) -> Sequence[Record]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        while True:
            appended = self._log._appended  # before the look, so that no append is missed
            records = await self._read(self._next_records, most)
            left = deadline - loop.time()
            if records or left <= 0:
                break
            try:
                await asyncio.wait_for(appended.wait(), min(left, POLL_SECONDS))
            except TimeoutError:
                continue
        if records:
            self._next = records[-1].position.offset + 1
        return records

    async def commit(self, positions: Sequence[Position]) -> None:
        if not positions:
            return
        next_offset = max(p.offset for p in positions) + 1
        await self._log._write(self._log._commit, self._group, next_offset)
        self._committed = max(self._committed, next_offset)

    async def lag(self) -> int:
        row = await self._read(self._one, "SELECT coalesce(max(offset), 0) FROM records")
        last = row[0] if row else 0
        return max(0, last + 1 - max(self._committed, 1))  # the first offset is 1

    async def stop(self) -> None:
        if self._ownership is not None:
            await self._ownership.revoked()
            self._ownership = None
        if self._thread is not None and self._reader is not None:
            await self._read(self._reader.close)
            self._thread.shutdown()
            self._thread = self._reader = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> int:
        lock = os.open(f"{self._log.path}.{self._group}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise Conflict(
                f"another process reads `{self._log.path}` as `{self._group}`; stop it first"
            ) from error
        return lock

    async def _read(self, work: Callable[..., T], *arguments: object) -> T:
        if self._thread is None:
            raise Retryable("the consumer is not started; start it first")

        def translated() -> T:
            with _translated():
                return work(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self._thread, translated)

    def _one(self, sql: str) -> tuple[int] | None:
        assert self._reader is not None
        arguments = (self._group,) if "?" in sql else ()
        row: tuple[int] | None = self._reader.execute(sql, arguments).fetchone()
        return row

    def _next_records(self, most: int) -> list[Record]:
        assert self._reader is not None
        records: list[Record] = []
        size = 0
        rows = self._reader.execute(
            "SELECT offset, value, headers FROM records WHERE offset >= ? ORDER BY offset LIMIT ?",
            (self._next, most),
        )
        for offset, value, headers in rows:
            position = Position(self._log.topic_id, PARTITION, offset)
            records.append(Record(position, value, _headers_in(headers)))
            size += len(value)
            if size >= FETCH_BYTES:
                break
        rows.close()  # ends the read transaction, or the WAL could not be checkpointed
        return records


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode=WAL")
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors have rolled back already
            connection.execute("ROLLBACK")
        raise


def _headers_out(headers: Headers) -> bytes:
    return orjson.dumps([(name, value.decode("latin-1")) for name, value in headers])


def _headers_in(text: bytes) -> Headers:
    return tuple((name, value.encode("latin-1")) for name, value in orjson.loads(text))

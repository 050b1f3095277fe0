"""Consumer of the SQLite log: owns its one partition; a file lock keeps other processes out."""

import asyncio
import fcntl
import math
import os
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from backend.adapters.sqlite_file import Connection, connect, headers_in
from backend.ports.event_log import Assignment, Ownership, Position, Record
from extauthz.core.errors import Conflict

if TYPE_CHECKING:
    from backend.adapters.sqlite_log import SqliteLog

PARTITION: Final = 0
FETCH_BYTES: Final = 8 << 20  # a fetch ends past this many bytes
POLL_SECONDS: Final = 0.25  # how soon another process's append is seen


class SqliteConsumer:
    """One member, and the only one, of its group."""

    def __init__(self, log: "SqliteLog", group: str) -> None:
        self._log, self._group = log, group
        self._next = self._committed = 0
        self._ownership: Ownership | None = None
        self._reader = Connection("event-log-read")
        self._lock: int | None = None

    async def start(self, ownership: Ownership) -> None:
        self._lock = self._take_lock()
        await self._reader.open(lambda: connect(self._log.path))
        self._next = self._committed = await self._reader.run(self._committed_offset)
        self._ownership = ownership
        await ownership.assigned(Assignment(self._log.topic_id, PARTITION, self._committed))

    async def fetch(self, most: int, wait_seconds: float) -> Sequence[Record]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        while True:
            appended = self._log.appended  # before the look, so that no append is missed
            records = await self._reader.run(lambda reader: self._next_records(reader, most))
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

    async def confirm(self) -> float:
        return math.inf  # nobody else gets the lock while this process lives

    async def commit(self, positions: Sequence[Position]) -> None:
        if not positions:
            return
        next_offset = max(p.offset for p in positions) + 1
        await self._log.commit(self._group, next_offset)
        self._committed = max(self._committed, next_offset)

    async def lag(self) -> int:
        first, last = await self._reader.run(
            lambda reader: reader.execute(
                "SELECT (SELECT min(offset) FROM records), (SELECT max(offset) FROM records)"
            ).fetchone()
        )
        return 0 if last is None else max(0, last + 1 - max(self._committed, first))

    async def stop(self) -> None:
        if self._ownership is not None:
            await self._ownership.revoked()
            self._ownership = None
        await self._reader.close()
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

    def _committed_offset(self, reader: sqlite3.Connection) -> int:
        sql = "SELECT next_offset FROM groups WHERE name = ?"
        row = reader.execute(sql, (self._group,)).fetchone()
        return row[0] if row else 0

    def _next_records(self, reader: sqlite3.Connection, most: int) -> list[Record]:
        records: list[Record] = []
        size = 0
        rows = reader.execute(
            "SELECT offset, value, headers, appended_at, key FROM records"
            " WHERE offset >= ? ORDER BY offset LIMIT ?",
            (self._next, most),
        )
        for offset, value, headers, appended_at, key in rows:
            position = Position(self._log.topic_id, PARTITION, offset)
            records.append(Record(position, value, headers_in(headers), appended_at, key))
            size += len(value)
            if size >= FETCH_BYTES:
                break
        rows.close()  # ends the read transaction, or the WAL could not be checkpointed
        return records

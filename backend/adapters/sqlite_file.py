"""One SQLite connection on one thread, its errors as ours."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import orjson

from backend.ports.event_log import Headers
from extauthz.core.errors import Busy, Retryable

T = TypeVar("T")


class Connection:
    """Work on the file, done one after another in the order of the calls.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: ThreadPoolExecutor | None = None
        self._sqlite: sqlite3.Connection | None = None

    async def open(self, opened: Callable[[], sqlite3.Connection]) -> None:
        """Start the thread, and open with what runs there. Raises what `opened` raises."""
        self._thread = ThreadPoolExecutor(1, self._name)
        self._sqlite = await asyncio.get_running_loop().run_in_executor(self._thread, opened)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in the thread.

        Raises:
            Busy: the disk or the file is full.
            Retryable: not open, or SQLite failed.
        """
        thread, connection = self._thread, self._sqlite
        if thread is None or connection is None:
            raise Retryable("the event log is not open; start it first")

        def translated() -> T:
            with _translated():
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(thread, translated)

    async def close(self) -> None:
        if self._sqlite is not None:
            await self.run(sqlite3.Connection.close)
        if self._thread is not None:
            self._thread.shutdown()
        self._sqlite = self._thread = None


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise Busy("the event log is full; free disk space or raise its limit") from error
        raise Retryable(f"the event log cannot be used ({error}); look at its disk") from error


def connect(path: Path) -> sqlite3.Connection:
    """Open the file in WAL mode; transactions are begun by hand."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode=WAL")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing; durable on leaving."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors have rolled back already
            connection.execute("ROLLBACK")
        raise


def headers_out(headers: Headers) -> bytes:
    return orjson.dumps([(name, value.decode("latin-1")) for name, value in headers])


def headers_in(text: bytes) -> Headers:
    if text == b"[]":
        return ()  # nearly always
    return tuple((name, value.encode("latin-1")) for name, value in orjson.loads(text))

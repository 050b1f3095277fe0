"""Connections to ClickHouse, its errors as ours, and what its queries share."""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, Error, ProgrammingError

from backend.adapters.clickhouse_cluster import on_cluster
from extauthz.core.errors import Conflict, Invalid, Retryable, TooSlow

DATABASE: Final = "mcp"
CONNECT_SECONDS: Final = 5
IDS_AT_ONCE: Final = 1000  # a server takes parameters of at most 128 KiB
QUERY_SECONDS: Final = 15
ANSWER_SECONDS: Final = QUERY_SECONDS + 5  # beyond that the server hangs
MIGRATION_SECONDS: Final = 6 * 3600  # altering a large table takes its time

QUERY_SETTINGS: Final = {
    "max_execution_time": str(QUERY_SECONDS),
    "max_memory_usage": str(1 << 30),
    "max_bytes_before_external_group_by": str(1 << 28),
}

# Error codes that blame a row, when rows are inserted: numbers, texts, times, UUIDs and
# fields that cannot be read, or do not fit. All others blame the moment.
BAD_ROW: Final = frozenset({6, 25, 26, 27, 38, 41, 69, 72, 117, 131, 321, 349, 376, 467})
# NOT_ENOUGH_SPACE, CANNOT_WRITE_TO_FILE_DESCRIPTOR, CANNOT_FSYNC, CANNOT_CREATE_DIRECTORY
_DISK: Final = frozenset({243, 75, 87, 434})
# TOO_MANY_ROWS, TIMEOUT_EXCEEDED, TOO_SLOW, TOO_MANY_BYTES
_TOO_MUCH: Final = frozenset({158, 159, 160, 307})
_MEMORY: Final = 241  # MEMORY_LIMIT_EXCEEDED

_ROOM: Final = 1 << 20  # bytes: more than all definitions
_WITH_PASSWORD: Final = re.compile(r"//[^/@]*@")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class TooLarge(TooSlow):
    """The query took more memory than it may; it may do with less at once."""


@contextmanager
def translated(*, blame: frozenset[int] = frozenset(), asks: bool = False) -> Iterator[None]:
    """Errors as ours; those whose codes are in `blame` are the data's fault.

    With `asks`, an exceeded budget is TooSlow, for who asks can ask for less.
    Only code and name of an error go on: its text may quote a payload.
    """
    try:
        yield
    except ClickHouseError as error:
        code = error.code if isinstance(error, Error) else None
        name = (error.name if isinstance(error, Error) else "") or type(error).__name__
        said = f"{name}, code {code}" if code else name
        if code in blame:
            raise Invalid(
                "", f"the event store refused the data ({said})", "look up the code in its log"
            ) from None
        if asks and code in _TOO_MUCH:
            raise TooSlow(
                f"the query took more time than it may ({said}), and was cancelled;"
                " narrow the time (`since`, `until`)"
            ) from error
        if asks and code == _MEMORY:
            raise TooLarge(
                f"the query took more memory than it may ({said}), and was cancelled;"
                " narrow the time (`since`, `until`), or lower `limit`"
            ) from error
        if code in _DISK:
            raise _full(said) from error
        if code is None:
            raise Retryable(
                f"the event store does not answer ({said}); check that STORE_URL is right and runs"
            ) from error
        raise Retryable(f"the event store cannot be used ({said}); look at its log") from error
    except OSError as error:  # chDB takes rows from a temporary file
        raise _full(f"{type(error).__name__}, errno {error.errno}") from error


def _full(said: str) -> Retryable:
    return Retryable(
        f"the event store cannot write ({said}); make room on its disk, or keep events"
        " for fewer days (EVENT_RETENTION_DAYS)"
    )


def milliseconds(moment: datetime) -> int:
    """Since the epoch, cut off as the store cuts times off."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


class Server:
    """Where the store is, and how to connect to it.

    Args:
        url: `clickhouse://[user:password@]host:port/database[?secure=true]` or
            `chdb:///absolute/path`.
        cluster: name of the server's cluster; empty for a single one.
    """

    def __init__(self, url: str, cluster: str) -> None:
        parts = urlsplit(url)
        self.is_embedded = parts.scheme == "chdb"
        self.cluster = cluster
        self.database = DATABASE if self.is_embedded else parts.path.strip("/") or DATABASE
        if self.is_embedded and cluster:
            raise Invalid("CLICKHOUSE_CLUSTER", f"`{cluster}`, but chDB is no cluster", "unset it")
        # What the client warns of it raises, too.
        logging.getLogger("clickhouse_connect").setLevel(logging.ERROR)
        # A database that does not exist yet cannot be connected to.
        self._dsn = url if self.is_embedded else parts._replace(path="").geturl()
        self._folder = Path(parts.path)

    def create_database(self) -> None:
        """Make the folder and the database where they are missing.

        Raises:
            Retryable: the server is away.
            Conflict: another process has the chDB path open.
        """
        if self.is_embedded:  # events tell who did what: nobody else may read them
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        client = self._first_client()
        try:
            clause = on_cluster(self.cluster)
            client.command(f"CREATE DATABASE IF NOT EXISTS `{self.database}`{clause}")
        finally:
            client.close()

    def check_room(self) -> None:
        """Before a change of a table: chDB would write its new definition in part, and lose it.

        Raises: OSError: the disk takes no more.
        """
        if self.is_embedded:
            with tempfile.TemporaryFile(dir=self._folder) as probe:
                probe.write(bytes(_ROOM))
                probe.flush()
                os.fsync(probe.fileno())

    def connect(self, answer_seconds: int = ANSWER_SECONDS) -> Client:
        """A connection of its own to the database.

        Args:
            answer_seconds: how long a server may be silent.
        """
        return self._client(self.database, answer_seconds)

    def _client(self, database: str | None, answer_seconds: int) -> Client:
        # Threads share a client; a server refuses two queries at once in one session.
        clickhouse_connect.common.set_setting("autogenerate_session_id", False)
        limits: dict[str, Any] = {}
        if not self.is_embedded:  # chDB would only warn of them
            limits = {"connect_timeout": CONNECT_SECONDS, "send_receive_timeout": answer_seconds}
        return clickhouse_connect.get_client(dsn=self._dsn, database=database, **limits)

    def _first_client(self) -> Client:
        try:
            return self._client(None, ANSWER_SECONDS)
        except ProgrammingError as error:  # what chDB raises, whatever the cause
            if not self.is_embedded:
                raise
            raise Conflict(
                f"`{_WITH_PASSWORD.sub('//', self._dsn)}` cannot be opened: another process has it"
                " open, or it is no folder of ours; stop that process, or name another folder"
            ) from error

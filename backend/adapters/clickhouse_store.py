"""EventStore on ClickHouse: a server (`clickhouse://`) or chDB in this process (`chdb:///`).

One implementation, for clickhouse-connect drives both with one API and chDB is
the same engine. chDB opens one path at a time, in one process, never after a fork.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import clickhouse_connect
import msgspec
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, Error, ProgrammingError

from backend.adapters.clickhouse_schema import migrate, shipped
from backend.ports import StoredEvent
from extauthz.core.errors import Conflict, Invalid, Retryable

DATABASE: Final = "mcp"
IDS_AT_ONCE: Final = 1000  # a server takes parameters of at most 128 KiB

# Error codes of ClickHouse that blame the data, not the moment.
_BAD_DATA: Final = frozenset({6, 25, 26, 27, 38, 41, 53, 72, 117, 131, 321, 376, 441})

_COLUMNS: Final = StoredEvent.__struct_fields__
_READ: Final = "SELECT toUnixTimestamp64Milli(event_time), " + ", ".join(_COLUMNS[1:])
_RECENT: Final = (
    _READ + " FROM events WHERE event_type NOT IN {types:Array(String)}"
    " ORDER BY event_time DESC, event_id DESC LIMIT {limit:UInt32}"
)
_LAST: Final = (
    "SELECT max(log_offset), count() FROM events"
    " WHERE topic_id = {topic:UUID} AND log_partition = {partition:UInt32}"
)
_PRESENT: Final = (
    "SELECT log_offset FROM events WHERE topic_id = {topic:UUID}"
    " AND log_partition = {partition:UInt32}"
    " AND log_offset BETWEEN {first:UInt64} AND {last:UInt64}"
)
_ENCODER: Final = msgspec.json.Encoder()
_INSERT_SETTINGS: Final = {
    "date_time_input_format": "best_effort",  # numbers would be misread, silently
    "max_partitions_per_insert_block": "0",  # a batch of old events may span many days
    "async_insert": "0",
}
_KNOWN: Final = (
    "SELECT event_id FROM events WHERE event_id IN {ids:Array(String)}"
    " AND event_time >= fromUnixTimestamp64Milli({since:Int64})"
    " AND event_time <= fromUnixTimestamp64Milli({until:Int64})"
)
_WITH_PASSWORD: Final = re.compile(r"//[^/@]*@")
_QUERY_SETTINGS: Final = {"max_execution_time": "15", "max_memory_usage": str(1 << 30)}


@contextmanager
def _translated(*, blame: frozenset[int] = frozenset()) -> Iterator[None]:
    """Errors as ours; those whose codes are in `blame` are the data's fault.

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
            ) from error
        raise Retryable(f"the event store cannot be used ({said}); look at its log") from error


class ClickHouseStore:
    """Two connections, so that a long insert never holds up a query.

    Args:
        url: `clickhouse://[user:password@]host:port/database` or `chdb:///absolute/path`.

    Raises:
        Retryable: the server is away.
        Conflict: another process has the chDB path open.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        database = DATABASE if parts.scheme == "chdb" else parts.path.strip("/") or DATABASE
        # A database that does not exist yet cannot be connected to.
        dsn = url if parts.scheme == "chdb" else parts._replace(path="").geturl()
        if parts.scheme == "chdb":  # events tell who did what: nobody else may read them
            Path(parts.path).mkdir(mode=0o700, parents=True, exist_ok=True)
        with _translated():
            first = _first_client(dsn)
            try:
                first.command(f"CREATE DATABASE IF NOT EXISTS `{database}`")
                self._writer = _client(dsn, database)
                self._reader = _client(dsn, database)
            finally:
                first.close()

    def close(self) -> None:
        self._writer.close()
        self._reader.close()

    def migrate(self) -> None:
        with _translated():
            migrate(self._writer, shipped())

    def ping(self) -> None:
        self._query("SELECT 1 FROM events LIMIT 0", {})

    def last_offset(self, topic_id: UUID, partition: int) -> int:
        given = {"topic": str(topic_id), "partition": partition}
        ((last, rows),) = self._query(_LAST, given)  # the projection answers
        return int(last) if rows else -1

    def present(self, topic_id: UUID, partition: int, first: int, last: int) -> frozenset[int]:
        given = {"topic": str(topic_id), "partition": partition, "first": first, "last": last}
        return frozenset(offset for (offset,) in self._query(_PRESENT, given))

    def insert(self, rows: Sequence[StoredEvent]) -> None:
        if not rows:
            return
        # A stream: clickhouse-connect sends bytes again when their answer was lost, though
        # they may be stored by then.
        block = BytesIO(_ENCODER.encode_lines(rows))
        with _translated(blame=_BAD_DATA):
            self._writer.raw_insert(
                "events", insert_block=block, fmt="JSONEachRow", settings=_INSERT_SETTINGS
            )

    def known_event_ids(
        self, event_ids: Sequence[str], since: datetime, until: datetime
    ) -> frozenset[str]:
        found: set[str] = set()
        for first in range(0, len(event_ids), IDS_AT_ONCE):
            given = {
                "ids": list(event_ids[first : first + IDS_AT_ONCE]),
                "since": _milliseconds(since),
                "until": _milliseconds(until),
            }
            found.update(event_id for (event_id,) in self._query(_KNOWN, given))
        return frozenset(found)

    def resent_ids(self, topic_id: UUID, partition: int, since: datetime) -> frozenset[str]:
        rows = self._query(
            "SELECT event_id FROM events WHERE resent AND topic_id = {topic:UUID}"
            " AND log_partition = {partition:UInt32}"
            " AND event_time >= fromUnixTimestamp64Milli({since:Int64})",
            {"topic": str(topic_id), "partition": partition, "since": _milliseconds(since)},
        )
        return frozenset(event_id for (event_id,) in rows)

    def duplicates(self, since: datetime) -> int:
        ((count,),) = self._query(
            "SELECT count() - uniqExact(event_id) FROM events"
            " WHERE event_time >= fromUnixTimestamp64Milli({since:Int64})",
            {"since": _milliseconds(since)},
        )
        return int(count)

    def recent(self, limit: int, without_types: frozenset[str]) -> Sequence[StoredEvent]:
        rows = self._query(_RECENT, {"types": sorted(without_types), "limit": limit})
        return [_event(row) for row in rows]

    def outcomes(self, event_ids: Sequence[str], since: datetime) -> Mapping[str, str]:
        if not event_ids:
            return {}
        rows = self._query(
            "SELECT outcome_of, payload FROM events WHERE outcome_of IN {ids:Array(String)}"
            " AND event_time >= fromUnixTimestamp64Milli({since:Int64})",
            {"ids": list(event_ids), "since": _milliseconds(since)},
        )
        return {str(event_id): str(payload) for event_id, payload in rows}

    def total(self, without_types: frozenset[str]) -> int:
        ((count,),) = self._query(
            "SELECT count() FROM events WHERE event_type NOT IN {types:Array(String)}",
            {"types": sorted(without_types)},
        )
        return int(count)

    def _query(self, sql: str, given: dict[str, Any]) -> Sequence[Sequence[Any]]:
        with _translated():
            rows: Sequence[Sequence[Any]] = self._reader.query(
                sql, parameters=given, settings=dict(_QUERY_SETTINGS)
            ).result_rows
            return rows


def _first_client(dsn: str) -> Client:
    try:
        return _client(dsn, None)
    except ProgrammingError as error:  # what chDB raises, whatever the cause
        raise Conflict(
            f"`{_WITH_PASSWORD.sub('//', dsn)}` cannot be opened: another process has it open, or"
            " it is no folder of ours; stop that process, or name another folder"
        ) from error


def _client(dsn: str, database: str | None) -> Client:
    # Threads share a client; a server refuses two queries at once in one session.
    clickhouse_connect.common.set_setting("autogenerate_session_id", False)
    return clickhouse_connect.get_client(dsn=dsn, database=database)


def _event(row: Sequence[Any]) -> StoredEvent:
    milliseconds, *others = row
    event_time = datetime.fromtimestamp(milliseconds / 1000, UTC)
    members = dict(zip(_COLUMNS[1:], others, strict=True))
    members["topic_id"] = UUID(str(members["topic_id"]))
    return StoredEvent(event_time=event_time, **members)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)

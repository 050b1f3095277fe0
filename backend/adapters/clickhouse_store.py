"""EventStore on ClickHouse: a server (`clickhouse://`) or chDB in this process (`chdb:///`).

One implementation, for clickhouse-connect drives both with one API and chDB is
the same engine. chDB opens one path at a time, in one process, never after a fork.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from backend.adapters import clickhouse_grants, clickhouse_runs, clickhouse_schema
from backend.adapters.clickhouse_changes import CHANGES
from backend.adapters.clickhouse_client import (
    IDS_AT_ONCE,
    MIGRATION_SECONDS,
    QUERY_SETTINGS,
    Server,
    milliseconds,
    translated,
)
from backend.adapters.clickhouse_events import EventQueries
from backend.adapters.clickhouse_export import ExportQueries
from backend.adapters.clickhouse_inserts import Inserts
from backend.adapters.clickhouse_readers import Readers
from backend.adapters.clickhouse_rows import READ, event_of
from backend.adapters.clickhouse_schema import Schema, shipped
from backend.adapters.clickhouse_usage import UsageQueries
from backend.gateway_runs import GatewayRun, Hole
from backend.ports.event_store import EventKey, SchemaChange, StoredEvent
from backend.queries import (
    Count,
    CountedBy,
    Cursor,
    EventFilter,
    ExportForm,
    GrantUses,
    Page,
    Summary,
    Usage,
)

INSERT_SECONDS: Final = 30  # tens of times what a batch takes; a hung server is Retryable

_SINCE: Final = "event_time >= fromUnixTimestamp64Milli({since:Int64})"
_PARTITION: Final = "topic_id = {topic:UUID} AND log_partition = {partition:UInt32}"
_OF_TYPE: Final = (
    f"{READ} FROM events WHERE event_type = {{type:String}} AND {_SINCE}"
    " ORDER BY event_time, event_id"
)
_LAST: Final = f"SELECT max(log_offset), count() FROM events WHERE {_PARTITION}"
_PRESENT: Final = (
    f"SELECT log_offset FROM events WHERE {_PARTITION}"
    " AND log_offset BETWEEN {first:UInt64} AND {last:UInt64}"
)
_KNOWN: Final = (
    f"SELECT producer, event_id FROM events WHERE event_id IN {{ids:Array(UUID)}} AND {_SINCE}"
    " AND event_time <= fromUnixTimestamp64Milli({until:Int64})"
)
_RESENT: Final = f"SELECT producer, event_id FROM events WHERE resent AND {_PARTITION} AND {_SINCE}"
_DUPLICATES: Final = (
    "SELECT sum(copies) FROM"
    f" (SELECT count() - 1 AS copies FROM events WHERE {_SINCE} GROUP BY producer, event_id)"
)


class ClickHouseStore:
    """Connections for inserts, for the processor and for the api: none holds another up.

    Args:
        url: `clickhouse://[user:password@]host:port/database` or `chdb:///absolute/path`.
        cluster: name of the server's cluster; empty for a single one.
        retention_days: how long events are kept; 0 for ever; None for as it is.
        insert_seconds: how long an insert may take.

    Raises:
        Retryable: the server is away.
        Conflict: another process has the chDB path open.
        Invalid: a cluster of chDB.
    """

    def __init__(
        self,
        url: str,
        *,
        cluster: str = "",
        retention_days: int | None = None,
        insert_seconds: int = INSERT_SECONDS,
    ) -> None:
        self._server = Server(url, cluster)
        self._schema = Schema(shipped(), cluster, retention_days)
        with translated():
            self._server.create_database()
            self._reader = self._server.connect()
            self._inserts = Inserts(self._server, self._schema, self._reader, insert_seconds)
        self._readers = Readers(self._server)
        self._events = EventQueries(self._readers)

    def close(self) -> None:
        self._inserts.close()
        self._reader.close()
        self._readers.close()

    def pending(self) -> Sequence[SchemaChange]:
        with translated():
            return clickhouse_schema.pending(self._reader, self._schema)

    def migrate(self) -> None:
        with translated():
            if self.pending():
                self._server.check_room()
            client = self._server.connect(MIGRATION_SECONDS)
            try:
                clickhouse_schema.migrate(client, self._reader, self._schema)
            finally:
                client.close()

    def ping(self) -> None:
        self._query("SELECT 1 FROM events LIMIT 0", {})

    def last_offset(self, topic_id: UUID, partition: int) -> int:
        self._inserts.await_all()
        # A projection answers this, whatever the size of the table.
        given = {"topic": str(topic_id), "partition": partition}
        ((last, rows),) = self._query(_LAST, given)
        return int(last) if rows else -1

    def present(self, topic_id: UUID, partition: int, first: int, last: int) -> frozenset[int]:
        self._inserts.await_doubtful()
        given = {"topic": str(topic_id), "partition": partition, "first": first, "last": last}
        return frozenset(offset for (offset,) in self._query(_PRESENT, given))

    def insert(self, rows: Sequence[StoredEvent], until: float = math.inf) -> None:
        if rows:
            self._inserts.insert(rows, until)

    def known_events(
        self, events: Sequence[EventKey], since: datetime, until: datetime
    ) -> frozenset[EventKey]:
        asked = {key: (key[0], id_) for key in events if (id_ := _uuid(key[1]))}
        ids = sorted({id_ for _, id_ in asked.values()})
        found: set[EventKey] = set()
        for first in range(0, len(ids), IDS_AT_ONCE):
            given = {
                "ids": ids[first : first + IDS_AT_ONCE],
                "since": milliseconds(since),
                "until": milliseconds(until),
            }
            found.update(_keys(self._query(_KNOWN, given)))
        return frozenset(key for key, stored in asked.items() if stored in found)

    def resent_events(self, topic_id: UUID, partition: int, since: datetime) -> frozenset[EventKey]:
        given = {"topic": str(topic_id), "partition": partition, "since": milliseconds(since)}
        return frozenset(_keys(self._query(_RESENT, given)))

    def duplicates(self, since: datetime) -> int:
        ((count,),) = self._query(_DUPLICATES, {"since": milliseconds(since)})
        return int(count)

    def gateway_runs(
        self, since: datetime, until: datetime, gateway_start: str = ""
    ) -> Sequence[GatewayRun]:
        return clickhouse_runs.gateway_runs(self._query, since, until, gateway_start)

    def holes(
        self, since: datetime, until: datetime, limit: int, gateway_start: str = ""
    ) -> Sequence[Hole]:
        return clickhouse_runs.holes(self._query, since, until, limit, gateway_start)

    def gaps(self, since: datetime) -> Sequence[StoredEvent]:
        return self._of_type("audit.gap", since)

    def starts(self, since: datetime) -> Sequence[StoredEvent]:
        return self._of_type("gateway.start", since)

    def changes(self, at: datetime, server: str = "") -> Sequence[StoredEvent]:
        given = {"at": milliseconds(at), "server": server}
        return [event_of(row) for row in self._query(READ + CHANGES, given)]

    def total(self, without_types: frozenset[str]) -> int:
        ((count,),) = self._query(
            "SELECT count() FROM events WHERE event_type NOT IN {types:Array(String)}",
            {"types": sorted(without_types)},
        )
        return int(count)

    def page(self, asked: EventFilter, limit: int, after: Cursor | None = None) -> Page:
        return self._events.page(asked, limit, after)

    def by_id(self, event_id: str, within: frozenset[str] | None = None) -> Sequence[StoredEvent]:
        return self._events.by_id(event_id, within)

    def by_request(
        self, request_id: str, within: frozenset[str] | None = None
    ) -> Sequence[StoredEvent]:
        return self._events.by_request(request_id, within)

    def counts_by(self, field: CountedBy, within: frozenset[str] | None = None) -> Sequence[Count]:
        return self._events.counts_by(field, within)

    def summary(self, within: frozenset[str] | None = None) -> Summary:
        return self._events.summary(within)

    def usage(self, asked: EventFilter, limit: int) -> Usage:
        return UsageQueries(self._readers).usage(asked, limit)

    def grant_use(self, since: datetime) -> GrantUses:
        return clickhouse_grants.grant_use(self._readers, since)

    def export(self, asked: EventFilter, form: ExportForm) -> Iterator[bytes]:
        return ExportQueries(self._readers).export(asked, form)

    def _of_type(self, event_type: str, since: datetime) -> list[StoredEvent]:
        rows = self._query(_OF_TYPE, {"type": event_type, "since": milliseconds(since)})
        return [event_of(row) for row in rows]

    def _query(self, sql: str, given: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        with translated():
            rows: Sequence[Sequence[Any]] = self._reader.query(
                sql, parameters=dict(given), settings=dict(QUERY_SETTINGS)
            ).result_rows
            return rows


def _keys(rows: Sequence[Sequence[Any]]) -> Iterator[EventKey]:
    return ((str(producer), str(event_id)) for producer, event_id in rows)


def _uuid(text: str) -> str:
    """In the usual spelling; empty for what is no UUID, and so is never stored."""
    try:
        return str(UUID(text))
    except ValueError:
        return ""

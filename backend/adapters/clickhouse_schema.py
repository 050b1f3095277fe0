"""Applies the numbered SQL migrations of `backend/schema`, once each, one process at a time.

ClickHouse has no transactions over DDL: every statement must bear being run twice, even
at the same time (IF NOT EXISTS), since a process may die between running and recording it.
"""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from backend.adapters.clickhouse_cluster import on_cluster, rendered, shared_engine
from backend.adapters.clickhouse_lock import schema_lock
from backend.ports.event_store import SchemaChange
from extauthz.core.errors import Invalid

_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_STATEMENT_END: Final = re.compile(r";\s*(?:\n|\Z)")
_TTL: Final = re.compile(r"\bTTL toDate\(event_time\) \+ toIntervalDay\((\d+)\)")
_UNKNOWN_TABLE: Final = 60
_REFILL: Final = (
    "fill a fresh store by `sentinel replay --from LOG --to STORE`, or run the version that made"
    " this one; a new migration in place of the edit keeps it"
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, its name and its statements, which must be repeatable."""

    number: int
    name: str
    text: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        return [s for part in _STATEMENT_END.split(self.text) if (s := part.strip())]


@dataclass(frozen=True, slots=True)
class Schema:
    """What the store's schema shall be.

    Args:
        cluster: name of the server's cluster; empty for a single one.
        retention_days: how long events are kept; 0 for ever; None for as it is.
    """

    migrations: Sequence[Migration]
    cluster: str = ""
    retention_days: int | None = None

    @property
    def table(self) -> str:
        """The table that holds rows."""
        return "events_local" if self.cluster else "events"


def shipped() -> list[Migration]:
    """The migrations of this release, in order."""
    found = []
    for entry in files("backend").joinpath("schema").iterdir():
        if match := _NAME.fullmatch(entry.name):
            found.append(Migration(int(match[1]), entry.name, entry.read_text("utf-8")))
    return sorted(found, key=lambda m: m.number)


def pending(client: Client, schema: Schema) -> list[SchemaChange]:
    """What `migrate` would change, in order. Changes nothing.

    Raises:
        Invalid: a migration was edited after it had been applied.
    """
    missing = _missing(client, schema)
    changes = [SchemaChange(m.name, tuple(_statements(m, schema))) for m in missing]
    return changes + _retention_changes(client, schema)


def migrate(client: Client, beating: Client, schema: Schema) -> None:
    """Apply what is missing, in the clients' database.

    Args:
        beating: another connection, for the lock.

    Raises:
        Invalid: a migration was edited after it had been applied.
        Retryable: another process holds the lock for too long, or took it over.
    """
    if not pending(client, schema):
        return
    with schema_lock(client, beating, schema.cluster) as still_held:
        client.command(
            f"CREATE TABLE IF NOT EXISTS schema_migrations{on_cluster(schema.cluster)}"
            " (number UInt32, name String, digest String,"
            " applied_at DateTime64(3, 'UTC') DEFAULT now64(3))"
            f" ENGINE = {shared_engine(schema.cluster)} ORDER BY number"
        )
        for migration in _missing(client, schema):
            for statement in _statements(migration, schema):
                still_held()
                client.command(statement)
            still_held()
            client.command(
                "INSERT INTO schema_migrations (number, name, digest)"
                " SELECT {number:UInt32}, {name:String}, {digest:String}",
                parameters={f: getattr(migration, f) for f in ("number", "name", "digest")},
            )
            _log.info("migration applied", extra={"migration": migration.name})
        for change in _retention_changes(client, schema):
            for statement in change.statements:
                still_held()
                client.command(statement)
            _log.info("retention changed", extra={"days": schema.retention_days})


def _statements(migration: Migration, schema: Schema) -> list[str]:
    return [s for each in migration.statements for s in rendered(each, schema.cluster)]


def _missing(client: Client, schema: Schema) -> list[Migration]:
    try:
        rows = client.query("SELECT number, digest FROM schema_migrations").result_rows
    except DatabaseError as error:
        if error.code != _UNKNOWN_TABLE:
            raise
        rows = []
    applied = {int(number): str(digest) for number, digest in rows}
    for migration in schema.migrations:
        if applied.get(migration.number, migration.digest) != migration.digest:
            raise Invalid(migration.name, "was changed after it had been applied", _REFILL)
    return [m for m in schema.migrations if m.number not in applied]


def _retention_changes(client: Client, schema: Schema) -> list[SchemaChange]:
    days = schema.retention_days
    if days is None or days == _retention(client, schema):
        return []
    change = f"MODIFY TTL toDate(event_time) + INTERVAL {days} DAY" if days else "REMOVE TTL"
    statement = f"ALTER TABLE {schema.table}{on_cluster(schema.cluster)} {change}"
    return [SchemaChange("EVENT_RETENTION_DAYS", (statement,))]


def _retention(client: Client, schema: Schema) -> int:
    """Days that the table keeps rows now, 0 for ever; -1 for a limit that is not ours."""
    rows = client.query(
        "SELECT engine_full FROM system.tables"
        " WHERE database = currentDatabase() AND name = {name:String}",
        parameters={"name": schema.table},
    ).result_rows
    engine = str(rows[0][0]) if rows else ""  # the first migration makes it, without a limit
    if match := _TTL.search(engine):
        return int(match[1])
    return -1 if " TTL " in engine else 0


def catch_up(schema: Schema) -> str:
    """What waits until every replica of a cluster has all rows that any acknowledged."""
    return f"SYSTEM SYNC REPLICA{on_cluster(schema.cluster)} {schema.table} LIGHTWEIGHT"

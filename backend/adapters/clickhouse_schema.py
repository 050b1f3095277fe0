"""Applies the numbered SQL migrations of `backend/schema`, once each, one process at a time.

ClickHouse has no transactions over DDL: every statement must bear being run
twice (IF NOT EXISTS), since a process may die between running and recording it.
"""

import hashlib
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from extauthz.core.errors import Invalid, Retryable

TABLE_EXISTS: Final = 57  # ClickHouse's error code TABLE_ALREADY_EXISTS
LEASE_SECONDS: Final = 30  # a lock older than this belongs to a dead process
_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_STATEMENT_END: Final = re.compile(r";\s*(?:\n|\Z)")

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


def shipped() -> list[Migration]:
    """The migrations of this release, in order."""
    found = []
    for entry in files("backend").joinpath("schema").iterdir():
        if match := _NAME.fullmatch(entry.name):
            found.append(Migration(int(match[1]), entry.name, entry.read_text("utf-8")))
    return sorted(found, key=lambda m: m.number)


def migrate(client: Client, migrations: Sequence[Migration]) -> None:
    """Apply what is missing, in the client's database.

    Raises:
        Invalid: a migration was edited after it had been applied.
        Retryable: another process holds the lock for too long.
    """
    client.command(
        "CREATE TABLE IF NOT EXISTS schema_migrations (number UInt32, name String, digest String,"
        " applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) ENGINE = MergeTree ORDER BY number"
    )
    if not _missing(client, migrations):
        return
    _lock(client)
    try:
        for migration in _missing(client, migrations):
            for statement in migration.statements:
                client.command(statement)
            client.command(
                "INSERT INTO schema_migrations (number, name, digest)"
                " SELECT {number:UInt32}, {name:String}, {digest:String}",
                parameters={f: getattr(migration, f) for f in ("number", "name", "digest")},
            )
            _log.info("migration applied", extra={"migration": migration.name})
    finally:
        client.command("DROP TABLE IF EXISTS schema_lock")


def _missing(client: Client, migrations: Sequence[Migration]) -> list[Migration]:
    rows = client.query("SELECT number, digest FROM schema_migrations").result_rows
    applied = {int(number): str(digest) for number, digest in rows}
    for migration in migrations:
        if applied.get(migration.number, migration.digest) != migration.digest:
            raise Invalid(
                migration.name, "was changed after it had been applied", "add a new migration"
            )
    return [m for m in migrations if m.number not in applied]


def _lock(client: Client) -> None:
    """Creating a table is atomic on a server: whoever creates `schema_lock` holds it."""
    for _ in range(2 * LEASE_SECONDS):
        try:
            client.command("CREATE TABLE schema_lock (held UInt8) ENGINE = MergeTree ORDER BY held")
            return
        except DatabaseError as error:
            if error.code != TABLE_EXISTS:
                raise
        age = client.query(
            "SELECT now() - metadata_modification_time FROM system.tables"
            " WHERE database = currentDatabase() AND name = 'schema_lock'"
        ).result_rows
        if age and int(age[0][0]) > LEASE_SECONDS:
            client.command("DROP TABLE IF EXISTS schema_lock")
        time.sleep(1)
    raise Retryable("another process has been migrating the store for a minute; try again later")

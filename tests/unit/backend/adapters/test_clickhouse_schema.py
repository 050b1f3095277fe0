"""Migrations: once each, in order, never edited afterwards; and how long events are kept."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from backend.adapters import clickhouse_schema
from backend.adapters.clickhouse_schema import Migration, Schema, pending, shipped
from backend.adapters.clickhouse_store import ClickHouseStore
from extauthz.core.errors import Conflict, Invalid

FIRST = Migration(1, "0001_a.sql", "CREATE TABLE IF NOT EXISTS a (n UInt8) ENGINE = Memory;\n")
SECOND = Migration(2, "0002_b.sql", "INSERT INTO a VALUES (1);\nINSERT INTO a VALUES (2);\n")

Migrate = Callable[[Sequence[Migration]], None]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    opened = clickhouse_connect.get_client(dsn=f"chdb://{tmp_path / 'store'}")
    yield opened
    opened.close()


@pytest.fixture
def migrate(tmp_path: Path, client: Client) -> Iterator[Migrate]:
    beating = clickhouse_connect.get_client(dsn=f"chdb://{tmp_path / 'store'}")
    yield lambda migrations: clickhouse_schema.migrate(client, beating, Schema(migrations))
    beating.close()


def test_each_runs_once(client: Client, migrate: Migrate) -> None:
    """A second call applies only what is new, every statement of it."""
    migrate([FIRST])
    migrate([FIRST, SECOND])
    migrate([FIRST, SECOND])
    assert client.command("SELECT count() FROM a") == 2


def test_what_is_pending_is_told(client: Client, migrate: Migrate) -> None:
    """In order, as SQL; looking changes nothing."""
    schema = Schema([FIRST, SECOND])
    assert [change.name for change in pending(client, schema)] == [FIRST.name, SECOND.name]
    migrate([FIRST])
    (change,) = pending(client, schema)
    assert change.statements == ("INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (2)")
    assert client.command("SELECT count() FROM a") == 0


def test_an_edited_migration_is_refused(migrate: Migrate) -> None:
    """What was applied must not change under its number."""
    migrate([FIRST])
    edited = Migration(1, FIRST.name, FIRST.text + "-- more\n")
    with pytest.raises(Invalid, match=r"0001_a\.sql.*sentinel replay.*new migration"):
        migrate([edited])


def test_a_failed_one_is_tried_again(client: Client, migrate: Migrate) -> None:
    """A migration that failed is not recorded, and its lock is free."""
    with pytest.raises(Exception, match="Code"):
        migrate([Migration(1, FIRST.name, "CREATE TABLE nonsense;\n")])
    migrate([FIRST])
    assert client.command("SELECT count() FROM schema_migrations") == 1


def test_the_shipped_ones_are_numbered_without_holes() -> None:
    """1, 2, 3 …"""
    numbers = [m.number for m in shipped()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(m.statements for m in shipped())


def test_retention_follows_its_setting(tmp_path: Path) -> None:
    """Days are set, changed and lifted; unset leaves them; the same again changes nothing."""

    def names_after(days: int | None) -> list[str]:
        store = ClickHouseStore(f"chdb://{tmp_path / 'store'}", retention_days=days)
        names = [change.name for change in store.pending()]
        store.migrate()
        assert store.pending() == []
        store.close()
        return names

    changed = ["EVENT_RETENTION_DAYS"]
    assert names_after(30) == ["0001_events.sql", "0002_parts.sql", *changed]
    assert [names_after(days) for days in (30, None, 90, 0, 0)] == [[], [], changed, changed, []]


def test_a_second_process_is_refused(store: ClickHouseStore, tmp_path: Path) -> None:
    """chDB lets one process in; the other hears why, and what to do."""
    code = (
        "from backend.adapters.clickhouse_store import ClickHouseStore\n"
        f"ClickHouseStore('chdb://{tmp_path / 'store'}')"
    )
    second = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert second.returncode != 0
    assert Conflict.__name__ in second.stderr
    assert "stop that process" in second.stderr

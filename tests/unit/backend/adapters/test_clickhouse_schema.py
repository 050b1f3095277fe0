"""Migrations: once each, in order, never edited afterwards, one process at a time."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from backend.adapters import clickhouse_schema
from backend.adapters.clickhouse_schema import Migration, migrate, shipped
from backend.adapters.clickhouse_store import ClickHouseStore
from extauthz.core.errors import Conflict, Invalid

FIRST = Migration(1, "0001_a.sql", "CREATE TABLE IF NOT EXISTS a (n UInt8) ENGINE = Memory;\n")
SECOND = Migration(2, "0002_b.sql", "INSERT INTO a VALUES (1);\nINSERT INTO a VALUES (2);\n")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    opened = clickhouse_connect.get_client(dsn=f"chdb://{tmp_path / 'store'}")
    yield opened
    opened.close()


def test_each_runs_once(client: Client) -> None:
    """A second call applies only what is new, every statement of it."""
    migrate(client, [FIRST])
    migrate(client, [FIRST, SECOND])
    migrate(client, [FIRST, SECOND])
    assert client.command("SELECT count() FROM a") == 2


def test_an_edited_migration_is_refused(client: Client) -> None:
    """What was applied must not change under its number."""
    migrate(client, [FIRST])
    edited = Migration(1, FIRST.name, FIRST.text + "-- more\n")
    with pytest.raises(Invalid, match=r"0001_a\.sql.*add a new migration"):
        migrate(client, [edited])


def test_a_failed_one_is_tried_again(client: Client) -> None:
    """A migration that failed is not recorded, and its lock is gone."""
    with pytest.raises(Exception, match="Code"):
        migrate(client, [Migration(1, FIRST.name, "CREATE TABLE nonsense;\n")])
    migrate(client, [FIRST])
    assert client.command("SELECT count() FROM schema_migrations") == 1


def test_a_dead_process_s_lock_is_taken_over(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock older than its lease belongs to nobody."""
    monkeypatch.setattr(clickhouse_schema, "LEASE_SECONDS", 1)
    client.command("CREATE TABLE schema_lock (held UInt8) ENGINE = MergeTree ORDER BY held")
    migrate(client, [FIRST])
    assert client.command("EXISTS TABLE schema_lock") == 0


def test_the_shipped_ones_are_numbered_without_holes() -> None:
    """1, 2, 3 …"""
    numbers = [m.number for m in shipped()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(m.statements for m in shipped())


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

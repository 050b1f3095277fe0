"""Migrations as a cluster needs them: rendered from the same files, and read by the engine.

One chDB is no cluster: it has neither Keeper nor other servers, so nothing of this runs.
"""

from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from backend.adapters.clickhouse_cluster import rendered
from backend.adapters.clickhouse_schema import Schema, catch_up, shipped
from backend.adapters.clickhouse_store import ClickHouseStore
from extauthz.core.errors import Invalid


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    opened = clickhouse_connect.get_client(dsn=f"chdb://{tmp_path / 'store'}")
    yield opened
    opened.close()


def test_one_server_runs_the_file_as_it_is() -> None:
    """Nothing is rendered where there is no cluster."""
    for migration in shipped():
        for statement in migration.statements:
            assert rendered(statement, "") == [statement]


def test_a_table_becomes_a_replicated_and_a_distributed_one() -> None:
    """Rows lie in `events_local` on every shard, twice or more; `events` is all of them."""
    local, everywhere = rendered(shipped()[0].statements[0], "prod")
    assert local.startswith("CREATE TABLE IF NOT EXISTS events_local ON CLUSTER `prod`\n(")
    assert (
        "ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}',"
        " '{replica}')\nPARTITION BY"
    ) in local
    assert "ENGINE = MergeTree" not in local
    assert everywhere == (
        "CREATE TABLE IF NOT EXISTS events ON CLUSTER `prod` AS events_local\n"
        "ENGINE = Distributed('prod', currentDatabase(), events_local, cityHash64("
        "if(empty(gateway_start), toString(event_id), toString(gateway_start))))"
    )


def test_every_shipped_statement_is_read_by_the_engine(client: Client) -> None:
    """The real parser takes what is rendered, and what keeps replicas together."""
    statements = [s for m in shipped() for each in m.statements for s in rendered(each, "prod")]
    for statement in [*statements, catch_up(Schema([], "prod"))]:
        read = client.query(
            "SELECT formatQuery({sql:String})", parameters={"sql": statement}
        ).result_rows[0][0]
        assert "ON CLUSTER prod" in read


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        ("ALTER TABLE events ADD COLUMN IF NOT EXISTS x UInt8", ["events_local", "events"]),
        ("-- why\nALTER TABLE events MODIFY COLUMN x UInt16", ["events_local", "events"]),
        ("ALTER TABLE events ADD INDEX IF NOT EXISTS i x TYPE minmax", ["events_local"]),
        ("ALTER TABLE events MODIFY TTL toDate(event_time) + INTERVAL 1 DAY", ["events_local"]),
    ],
)
def test_an_alteration_reaches_the_tables_it_concerns(
    client: Client, statement: str, tables: list[str]
) -> None:
    """Columns are both tables'; indexes, projections and TTL are the local ones' own."""
    found = rendered(statement, "prod")
    assert [each.split(" ON CLUSTER ")[0] for each in found] == [
        f"ALTER TABLE {table}" for table in tables
    ]
    for each in found:
        client.query("SELECT formatQuery({sql:String})", parameters={"sql": each})


@pytest.mark.parametrize(
    "statement",
    ["DROP TABLE events", "CREATE TABLE IF NOT EXISTS x (n UInt8) ENGINE = Memory", "OPTIMIZE"],
)
def test_a_form_that_is_not_known_is_refused(statement: str) -> None:
    """A migration that could not run on a cluster fails here, not there."""
    with pytest.raises(ValueError, match="cannot be rendered"):
        rendered(statement, "prod")


def test_chdb_is_no_cluster(tmp_path: Path) -> None:
    """The setting and the engine do not go together."""
    with pytest.raises(Invalid, match=r"CLICKHOUSE_CLUSTER.*`prod`.*unset it"):
        ClickHouseStore(f"chdb://{tmp_path / 'store'}", cluster="prod")

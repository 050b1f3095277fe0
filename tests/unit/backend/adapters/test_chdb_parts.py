"""What chDB does not tell: that it could not write. The real engine, with files cut short."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from backend.adapters.chdb_parts import Parts
from backend.adapters.clickhouse_store import ClickHouseStore
from backend.ports.event_store import StoredEvent
from extauthz.core.errors import Retryable

NONE: frozenset[str] = frozenset()
ROWS = 5_000


@pytest.fixture
def client(store: ClickHouseStore, tmp_path: Path) -> Iterator[Client]:
    """A connection beside the store's own; merges happen when they are asked for."""
    opened = clickhouse_connect.get_client(dsn=f"chdb://{tmp_path / 'store'}", database="mcp")
    opened.command("SYSTEM STOP MERGES events")
    yield opened
    opened.close()


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """What the kernel does then is what it does on a full disk: it writes less, or nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def insert(client: Client) -> None:
    """Rows that do not come over a file of ours."""
    client.command(
        "INSERT INTO events (event_time, event_id, source, event_type, payload_packed, log_offset)"
        " SELECT '2026-11-22 12:00:00', generateUUIDv4(), 's', 't', hex(randomString(50)), number"
        f" FROM numbers({ROWS})"
    )


def test_what_is_whole_passes(client: Client, store: ClickHouseStore) -> None:
    """New parts and merged ones."""
    parts = Parts(client.raw_query)
    for _ in range(3):
        insert(client)
        parts.check()
    client.command("SYSTEM START MERGES events")
    client.command("OPTIMIZE TABLE events FINAL")
    parts.check()
    assert store.total(NONE) == 3 * ROWS


@pytest.mark.parametrize("size", [0, 100, 10_000])
def test_an_insert_that_is_not_whole_is_taken_back(
    client: Client, store: ClickHouseStore, size: int
) -> None:
    """chDB says it is stored; the check says it is not, and afterwards it can be inserted again."""
    parts = Parts(client.raw_query)
    insert(client)
    parts.check()
    with no_file_beyond(size):
        insert(client)
    with pytest.raises(Retryable, match="could not write 1 parts in full; make room"):
        parts.check()
    assert store.total(NONE) == ROWS
    insert(client)
    parts.check()
    assert store.total(NONE) == 2 * ROWS


def test_what_was_written_before_a_crash_is_checked(client: Client, store: ClickHouseStore) -> None:
    """Who died between an insert and its check leaves it to the next one."""
    with no_file_beyond(100):
        insert(client)
    with pytest.raises(Retryable):
        store.last_offset(UUID(int=0), 0)
    assert store.last_offset(UUID(int=0), 0) == -1


def merge_badly(client: Client, parts: Parts, size: int) -> None:
    """Parts that are whole, and a merge of them that is not."""
    for _ in range(2):
        with parts.inserting():
            insert(client)
    client.command("SYSTEM START MERGES events")
    with no_file_beyond(size):
        client.command("OPTIMIZE TABLE events FINAL")


@pytest.mark.parametrize("size", [0, 100_000])
def test_a_merge_that_is_not_whole_is_undone(
    client: Client, store: ClickHouseStore, size: int
) -> None:
    """At once, by a look at merges: every row is there again, and nothing lies about."""
    parts = Parts(client.raw_query)
    merge_badly(client, parts, size)
    with no_file_beyond(size), pytest.raises(Retryable, match="could not write 1 parts in full"):
        parts.check_merges()
    assert store.total(NONE) == 2 * ROWS
    assert client.query("SELECT name FROM system.detached_parts").result_rows == []
    parts.check_merges()


def test_what_was_merged_outlives_a_part_that_is_dropped(
    client: Client, store: ClickHouseStore
) -> None:
    """The engine tidies up then: not what a merge may need again."""
    parts = Parts(client.raw_query)
    merge_badly(client, parts, 0)
    insert(client)
    client.command("ALTER TABLE events DROP PART '20261122_3_3_0'")
    with pytest.raises(Retryable):
        parts.check_merges()
    assert store.total(NONE) == 2 * ROWS


def test_a_merge_and_an_insert_that_are_not_whole(client: Client, store: ClickHouseStore) -> None:
    """The one is undone, the other is dropped; nothing of either lies about."""
    parts = Parts(client.raw_query)
    merge_badly(client, parts, 100_000)
    with no_file_beyond(100_000):
        insert(client)
        with pytest.raises(Retryable, match="could not write 2 parts in full"):
            parts.check()
    assert store.total(NONE) == 2 * ROWS
    assert client.query("SELECT name FROM system.detached_parts").result_rows == []


def test_a_large_merge_that_is_not_whole_is_undone(client: Client, store: ClickHouseStore) -> None:
    """The engine would not load a table with as much that is broken, if it were not told to."""
    parts = Parts(client.raw_query)
    merge_badly(client, parts, 100_000)
    ((merged,),) = client.query(
        "SELECT path FROM system.parts WHERE active AND table = 'events' AND level > 0"
    ).result_rows
    os.truncate(Path(merged) / "data.bin", 3 << 30)
    with (Path(merged) / "count.txt").open("w"):
        pass
    with pytest.raises(Retryable):
        parts.check_merges()
    assert store.total(NONE) == 2 * ROWS


def test_nothing_is_merged_until_an_insert_is_whole(client: Client, store: ClickHouseStore) -> None:
    """What could not be written is not tried again at once."""
    parts = Parts(client.raw_query)
    merge_badly(client, parts, 0)
    with pytest.raises(Retryable):
        parts.check_merges()
    with pytest.raises(DatabaseError, match="ABORTED"):
        client.command("OPTIMIZE TABLE events FINAL")
    with parts.inserting():
        insert(client)
    client.command("OPTIMIZE TABLE events FINAL")
    parts.check()
    assert store.total(NONE) == 3 * ROWS


def test_an_insert_while_the_table_is_loaded_again_counts_as_lost(
    client: Client, store: ClickHouseStore
) -> None:
    """Loading takes away what is not whole, so that a check after it would find nothing wrong."""
    parts = Parts(client.raw_query)
    merge_badly(client, parts, 0)
    inserting = parts.inserting()
    inserting.__enter__()
    with no_file_beyond(0):
        insert(client)
    with pytest.raises(Retryable):
        parts.check_merges()
    with pytest.raises(Retryable, match="lost parts meanwhile"):
        inserting.__exit__(None, None, None)
    assert store.total(NONE) == 2 * ROWS


def test_a_table_that_could_not_be_loaded_is_loaded_later(
    client: Client, store: ClickHouseStore
) -> None:
    """Whatever stops it in between, another look goes on with it."""
    refused = ["ATTACH"]

    def ask(statement: str) -> bytes:
        if refused and statement.startswith(refused[0]):
            raise Retryable(refused.pop())
        return client.raw_query(statement)

    parts = Parts(ask)
    merge_badly(client, parts, 0)
    with pytest.raises(Retryable, match="ATTACH"):
        parts.check_merges()
    with pytest.raises(Retryable, match="cannot be used"):
        store.total(NONE)
    parts.check_merges()
    assert store.total(NONE) == 2 * ROWS


def test_a_full_disk_under_the_rows_is_retryable(store: ClickHouseStore) -> None:
    """chDB takes rows from a file of ours; that one may not find room either."""
    row = StoredEvent(
        event_time=datetime(2026, 11, 22, tzinfo=UTC),
        event_id=str(UUID(int=1)),
        source="s",
        event_type="t",
        payload="{}",
        topic_id=UUID(int=7),
        log_partition=0,
        log_offset=1,
    )
    with no_file_beyond(10), pytest.raises(Retryable, match="make room on its disk"):
        store.insert([row])
    assert store.present(UUID(int=7), 0, 0, 9) == frozenset()
    store.insert([row])
    assert store.total(NONE) == 1


def test_no_table_is_altered_without_room(store: ClickHouseStore, tmp_path: Path) -> None:
    """Its definition would be written in part, and nobody could open the store any more."""
    other = ClickHouseStore(f"chdb://{tmp_path / 'store'}", retention_days=7)
    with no_file_beyond(1000), pytest.raises(Retryable, match="make room on its disk"):
        other.migrate()
    assert other.pending()
    other.migrate()
    assert other.pending() == []
    other.close()

"""What chDB does not tell: that it could not write. The real engine, with files cut short."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from backend.adapters.chdb_parts import Parts
from backend.adapters.clickhouse_store import ClickHouseStore
from backend.ports.event_store import Damaged, StoredEvent
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


def test_a_merge_that_is_not_whole_is_undone_by_a_start(
    client: Client, store: ClickHouseStore, tmp_path: Path
) -> None:
    """Nothing may go on; a start finds the parts that were merged, with every row."""
    parts = Parts(client.raw_query)
    for _ in range(2):
        insert(client)
        parts.check()
    client.command("SYSTEM START MERGES events")
    with no_file_beyond(100_000):
        client.command("OPTIMIZE TABLE events FINAL")
    with pytest.raises(Damaged, match="start again at once"):
        parts.check()
    client.close()
    store.close()
    again = ClickHouseStore(f"chdb://{tmp_path / 'store'}")
    assert again.total(NONE) == 2 * ROWS
    again.close()


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

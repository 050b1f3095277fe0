"""chDB on a disk that fills up at any moment, killed at any moment: what is stored stays stored."""

import math
import multiprocessing
import os
import resource
import signal
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from uuid import UUID

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from backend.adapters import chdb_parts
from backend.adapters.clickhouse_store import ClickHouseStore
from backend.ports.event_store import StoredEvent
from extauthz.core.errors import Retryable

TOPIC = UUID(int=7)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BATCH, DAYS, LIVES, STEPS = 40, 3, 3, 40
NO_ROOM = (0, 100, 5_000, 20_000)  # bytes that a file may have


def event(offset: int) -> StoredEvent:
    return StoredEvent(
        event_time=NOON - timedelta(days=offset % DAYS),
        event_id=str(UUID(int=offset + 1)),
        source="s",
        event_type="t",
        payload=f'{{"n": {offset}, "text": "{Random(offset).randbytes(40).hex()}"}}',
        topic_id=TOPIC,
        log_partition=0,
        log_offset=offset,
    )


def live(url: str, seed: int, first: int, told: Connection) -> None:
    """One process: inserts, merges and failures in some order, then `kill -9`.

    Args:
        first: offset of its first event, and of those after it that are sent through `told` once
            they are said to be stored.
    """
    chance = Random(seed)
    chdb_parts.WATCH_SECONDS = chance.choice([0.05, 60.0])  # type: ignore[misc]
    store = ClickHouseStore(url)
    store.migrate()
    client = clickhouse_connect.get_client(dsn=url, database="mcp")
    next_offset = first
    for _ in range(STEPS):
        match chance.choice(["insert", "insert", "insert", "merge", "full", "room"]):
            case "insert":
                batch = range(next_offset, next_offset + BATCH)
                with suppress(Retryable):
                    present = store.present(TOPIC, 0, batch[0], batch[-1])
                    store.insert([event(each) for each in batch if each not in present], math.inf)
                    next_offset += BATCH
                    told.send(next_offset)
            case "merge":
                with suppress(DatabaseError):  # none, while there is no room
                    client.command("OPTIMIZE TABLE events FINAL")
            case "full":
                limit(chance.choice(NO_ROOM))
            case "room":
                limit(resource.RLIM_INFINITY)
    os.kill(os.getpid(), signal.SIGKILL)


def limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_that_was_stored_is_lost(tmp_path: Path, seed: int) -> None:
    """Every event that an insert was done with is there, once; any other at most once."""
    url, stored = f"chdb://{tmp_path / 'store'}", 0
    spawn = multiprocessing.get_context("spawn")  # chDB must not be forked
    for number in range(LIVES):
        told, tells = spawn.Pipe(duplex=False)
        process = spawn.Process(target=live, args=(url, seed * 1000 + number, stored, tells))
        process.start()
        tells.close()
        with told, suppress(EOFError):
            while True:
                stored = told.recv()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    store = ClickHouseStore(url)
    client = clickhouse_connect.get_client(dsn=url, database="mcp")
    offsets = [row[0] for row in client.query("SELECT log_offset FROM events").result_rows]
    client.close()
    store.close()
    assert len(offsets) == len(set(offsets))
    assert set(range(stored)) <= set(offsets)
    assert max(offsets) < stored + BATCH

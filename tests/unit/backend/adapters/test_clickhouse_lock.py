"""The lock around migrations: one living holder, and none that died."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from backend.adapters.clickhouse_lock import StillHeld, schema_lock
from extauthz.core.errors import Retryable


class Process:
    """What one process has: two connections."""

    def __init__(self, path: Path) -> None:
        self.working, self.beating = (
            clickhouse_connect.get_client(dsn=f"chdb://{path}") for _ in range(2)
        )
        self.working.command("CREATE DATABASE IF NOT EXISTS mcp")
        self.working.database = self.beating.database = "mcp"

    def lock(
        self, lease_seconds: float = 30, wait_seconds: float = 0
    ) -> AbstractContextManager[StillHeld]:
        return schema_lock(
            self.working,
            self.beating,
            "",
            lease_seconds=lease_seconds,
            wait_seconds=wait_seconds,
        )

    def close(self) -> None:
        self.working.close()
        self.beating.close()


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path / "store")
    yield process
    process.close()


@pytest.fixture
def other(tmp_path: Path, one: Process) -> Iterator[Process]:
    process = Process(tmp_path / "store")
    yield process
    process.close()


def locks(client: Client) -> list[str]:
    rows = client.query(
        "SELECT name FROM system.tables WHERE name LIKE 'schema_lock_%'"
    ).result_rows
    return [name for (name,) in rows]


def test_a_second_holder_waits(one: Process, other: Process) -> None:
    """While one holds it, the other hears Retryable; afterwards it is free at once."""
    with one.lock(), pytest.raises(Retryable, match="try again later"), other.lock():
        raise AssertionError("two hold the lock")
    with other.lock() as still_held:
        still_held()


def test_a_living_holder_keeps_it_beyond_its_lease(one: Process, other: Process) -> None:
    """A slow migration is not a dead one: what it writes meanwhile keeps the lock."""
    with (
        one.lock(lease_seconds=6),
        pytest.raises(Retryable),
        other.lock(lease_seconds=6, wait_seconds=8),
    ):
        raise AssertionError("stolen from the living")


def test_a_dead_holder_s_lock_is_taken_over(one: Process, other: Process) -> None:
    """One that wrote nothing for its lease is dead, also before it ever wrote."""
    one.working.command(
        "CREATE TABLE schema_lock_7 (at DateTime64(3) DEFAULT now64(3), released Bool)"
        " ENGINE = MergeTree ORDER BY at"
    )
    with other.lock(lease_seconds=1, wait_seconds=30):
        assert locks(one.working) == ["schema_lock_8"]


def test_a_frozen_holder_finds_out(one: Process, other: Process) -> None:
    """Who was taken for dead must not go on, and does not free the other's lock."""
    with one.lock() as still_held:
        still_held()
        with other.lock(lease_seconds=0) as others:  # any silence is too long
            with pytest.raises(Retryable, match="took over"):
                still_held()
            others()
    with other.lock():
        pass


def test_only_one_of_many_gets_it(tmp_path: Path) -> None:
    """All try at the same time; never do two hold it."""
    processes = [Process(tmp_path / "store") for _ in range(4)]
    holders: list[int] = []
    most: list[int] = []

    def hold(process: Process) -> None:
        with process.lock(wait_seconds=60):
            holders.append(1)
            most.append(len(holders))
            process.working.query("SELECT sleep(0.05)")
            holders.pop()

    threads = [threading.Thread(target=hold, args=(process,)) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.close()
    assert most == [1] * len(processes)

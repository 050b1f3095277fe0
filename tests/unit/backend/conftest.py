"""Real adapters for the components' tests."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.adapters.sqlite_log import SqliteLog
from tests.tools.log_thread import LogThread


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ClickHouseStore]:
    """A migrated chDB store; chDB opens one folder at a time, so it is closed after the test."""
    opened = ClickHouseStore(f"chdb://{tmp_path / 'store'}")
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def chdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ClickHouseStore, Client]]:
    """A migrated store that the tests of a module share, and a client of its own."""
    url = f"chdb://{tmp_path_factory.mktemp('shared') / 'store'}"
    opened = ClickHouseStore(url)
    opened.migrate()
    client = clickhouse_connect.get_client(dsn=url, database="mcp")
    yield opened, client
    client.close()
    opened.close()


@pytest.fixture
def emptied(chdb: tuple[ClickHouseStore, Client]) -> ClickHouseStore:
    """The shared store without events: quicker than a store of its own."""
    store, client = chdb
    client.command("TRUNCATE TABLE events")
    return store


@pytest.fixture
def new_log(tmp_path: Path) -> Callable[..., SqliteLog]:
    """Makes logs on one file, not started."""

    def make(**options: float) -> SqliteLog:
        arguments: dict[str, float] = {"retention_seconds": 3600.0} | options
        return SqliteLog(tmp_path / "log.db", clock=lambda: 1_000.0, **arguments)  # type: ignore[arg-type]

    return make


@pytest.fixture
async def log(new_log: Callable[..., SqliteLog]) -> AsyncIterator[SqliteLog]:
    opened = new_log()
    await opened.start()
    yield opened
    await opened.stop()


@pytest.fixture
def thread() -> Iterator[LogThread]:
    started = LogThread()
    yield started
    started.stop()


@pytest.fixture
def kept(thread: LogThread, new_log: Callable[..., SqliteLog]) -> Iterator[SqliteLog]:
    """A log that runs on another thread's loop."""
    log = new_log()
    thread.run(log.start())
    yield log
    thread.run(log.stop())


@pytest.fixture
def set_aside(thread: LogThread, kept: SqliteLog) -> Callable[..., str]:
    """Makes dead letters in `kept`; returns the id of each."""
    return functools.partial(thread.set_aside, kept)

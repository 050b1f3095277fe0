"""A real api over a real access directory, for commands that govern."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask import Flask

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.adapters.directory import DirectoryStore
from backend.adapters.sqlite_log import SqliteLog
from backend.api.app import create_app
from backend.cli.main import sentinel
from backend.metrics import ApiMetrics, new_registry
from backend.serving import WsgiUnit
from tests.tools.log_thread import LogThread
from tests.tools.told_cluster import told_runtime
from tests.tools.waiting import SECONDS
from tests.unit.backend.api.conftest import callers, new_recorder

Run = Callable[..., Result]


@dataclass(frozen=True)
class Governed:
    """An access directory, and the api that serves it."""

    access: Path
    url: str
    key_file: Path
    store: ClickHouseStore

    @property
    def by_api(self) -> tuple[str, ...]:
        return ("--api", self.url, "--key-file", str(self.key_file))

    @property
    def by_directory(self) -> tuple[str, ...]:
        return ("--access", str(self.access))


@contextmanager
def served(app: Flask) -> Iterator[int]:
    """Its port."""
    thread, stop, ready = LogThread(), asyncio.Event(), threading.Event()
    unit = WsgiUnit("api", app, "127.0.0.1", 0)
    running = asyncio.run_coroutine_threadsafe(unit.run(stop, ready.set), thread.loop)
    assert ready.wait(SECONDS)
    yield unit.port
    thread.loop.call_soon_threadsafe(stop.set)
    running.result(SECONDS)
    thread.stop()


@pytest.fixture(scope="module")
def governed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governed]:
    """Empty at first; `admin` is its key."""
    root, thread = tmp_path_factory.mktemp("governed"), LogThread()
    for name in ("access", "changes"):
        (root / name).mkdir()
    (root / "key").write_text("admin\n")
    log = SqliteLog(root / "log.db", clock=lambda: 0.0, retention_seconds=3600)
    thread.run(log.start())
    store = ClickHouseStore(f"chdb://{root / 'store'}")
    store.migrate()
    app = create_app(
        store=store,
        access=DirectoryStore(root / "access"),
        changes=new_recorder(root / "changes", log, thread),
        runtime=told_runtime(),
        verifier=callers(),
        metrics=ApiMetrics(new_registry()),
        clock=lambda: datetime.now(UTC),
        retention=None,
    )
    with served(app) as port:
        yield Governed(root / "access", f"http://127.0.0.1:{port}", root / "key", store)
    store.close()
    thread.run(log.stop())
    thread.stop()


def run(*words: str, input: str | None = None, **environ: str) -> Result:
    """One command, with nothing in the environment but what is given."""
    unset = {"SENTINEL_API_URL": "", "MCP_PLATFORM_API_URL": "", "SENTINEL_ACCESS": ""}
    unset |= {"SENTINEL_API_KEY": "", "MCP_PLATFORM_API_TOKEN": ""}
    return CliRunner(env=unset | environ).invoke(sentinel, words, input=input)

"""The backend as one process: an event's way through it, and its death in the middle."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import aiohttp
import pytest

from backend import wiring
from backend.settings import Settings
from extauthz.core import config
from tests.tools.ports import free_ports
from tests.tools.waiting import SECONDS, soon

KEYS = {"ADMIN_API_KEYS": "admin", "INGEST_API_KEYS": "ingest"}
INGEST, ADMIN = {"x-api-key": "ingest"}, {"x-api-key": "admin"}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "access").mkdir()
    ingest, api, metrics = map(str, free_ports(3))
    return KEYS | {
        "EVENT_LOG_URL": f"sqlite://{tmp_path / 'log.db'}",
        "STORE_URL": f"chdb://{tmp_path / 'store'}",
        "ACCESS_URL": f"dir://{tmp_path / 'access'}",
        "FLUSH_INTERVAL": "0.05s",
        "INGEST_PORT": ingest,
        "API_PORT": api,
        "METRICS_PORT": metrics,
    }


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def id_of(name: str) -> str:
    return str(uuid5(NAMESPACE_OID, name))


def event(name: str, **members: Any) -> dict[str, Any]:
    plain = {"event_id": id_of(name), "source": "s", "event_type": "mcp.request", "payload": {}}
    return plain | members


async def ready(http: aiohttp.ClientSession, environ: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{environ['METRICS_PORT']}/ready"

    async def is_ready() -> bool:
        try:
            async with http.get(url) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    await soon(is_ready, "the backend is ready", every=0.05)


async def post(http: aiohttp.ClientSession, environ: dict[str, str], body: Any) -> int:
    url = f"http://127.0.0.1:{environ['INGEST_PORT']}/events"
    async with http.post(url, json=body, headers=INGEST) as answer:
        return answer.status


async def stored(http: aiohttp.ClientSession, environ: dict[str, str]) -> list[dict[str, Any]]:
    url = f"http://127.0.0.1:{environ['API_PORT']}/api/events?limit=1000"
    async with http.get(url, headers=ADMIN) as answer:
        assert answer.status == 200
        events: list[dict[str, Any]] = (await answer.json())["events"]
        return events


async def caught_up(http: aiohttp.ClientSession, environ: dict[str, str], name: str) -> None:
    async def is_stored() -> bool:
        return id_of(name) in {e["event_id"] for e in await stored(http, environ)}

    await soon(is_stored, f"{name} is stored", every=0.05)


async def test_an_event_s_way(http: aiohttp.ClientSession, environ: dict[str, str]) -> None:
    """POST → log → processor → store → GET, then a stop that drains what was accepted."""
    settings, stop = config.load(Settings, environ), asyncio.Event()
    running = asyncio.create_task(wiring.run(settings, "all", stop))
    await ready(http, environ)
    call = event("a", payload={"decision_id": id_of("a"), "server": "shop"})
    assert await post(http, environ, call) == 202
    await caught_up(http, environ, "a")
    assert await post(http, environ, event("old", timestamp="2026-01-01T00:00:00Z")) == 400
    outcome = event(
        "b", event_type="mcp.response", payload={"decision_id": id_of("a"), "status": 200}
    )
    assert await post(http, environ, [outcome, event("c")]) == 202
    await caught_up(http, environ, "c")
    shown = {e["event_id"]: e for e in await stored(http, environ)}
    assert set(shown) == {id_of("a"), id_of("c")}
    joined = shown[id_of("a")]
    assert joined["payload"] == {"decision_id": id_of("a"), "server": "shop", "status": 200}
    assert joined["producer"].startswith("key-")

    assert await post(http, environ, [event(f"late{n}") for n in range(50)]) == 202
    stop.set()
    await running
    with sqlite_at(environ) as rows:
        last, committed = rows
    assert committed == last + 1


@contextmanager
def sqlite_at(environ: dict[str, str]) -> Iterator[tuple[int, int]]:
    import sqlite3

    with sqlite3.connect(environ["EVENT_LOG_URL"].removeprefix("sqlite://")) as reader:
        (last,) = reader.execute("SELECT max(offset) FROM records").fetchone()
        (committed,) = reader.execute("SELECT next_offset FROM groups").fetchone()
        yield last, committed


def start(environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "backend", "--target", "all"],
        env=os.environ | environ,
    )


async def pour(
    http: aiohttp.ClientSession, environ: dict[str, str], prefix: str, taken: set[str]
) -> None:
    """Post until the backend is gone; `taken` holds what was answered 202."""
    number = 0
    while True:
        names = [f"{prefix}-{number}-{n}" for n in range(3)]
        number += 1
        try:
            if await post(http, environ, [event(name) for name in names]) == 202:
                taken.update(map(id_of, names))
        except aiohttp.ClientError:
            return


async def test_kill_9_loses_and_doubles_nothing(
    http: aiohttp.ClientSession, environ: dict[str, str]
) -> None:
    """Whatever was answered 202 is in the store exactly once, however often it is killed."""
    taken: set[str] = set()
    for life in range(3):
        process = start(environ)
        await ready(http, environ)
        posters = [pour(http, environ, f"{life}-{n}", taken) for n in range(3)]
        pouring = asyncio.gather(*posters)
        enough = len(taken) + 60
        await soon(partial(lambda least: len(taken) >= least, enough), "events are taken")
        process.send_signal(signal.SIGKILL)
        process.wait()
        await pouring
    process = start(environ)
    await ready(http, environ)
    await post(http, environ, event("last"))
    await caught_up(http, environ, "last")
    ids = [e["event_id"] for e in await stored(http, environ)]
    assert len(ids) < 1000, "the test's own bound: one page must hold everything"
    assert taken <= set(ids)
    assert len(ids) == len(set(ids))
    process.terminate()
    assert process.wait(SECONDS) == 0

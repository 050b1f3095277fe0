"""The api as a process of its own, told of an event log or of none."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from backend import wiring
from backend.settings import Settings
from extauthz.core import config
from tests.tools.ports import free_ports
from tests.unit.backend.test_backend_process import ADMIN, KEYS, ready

WARNING = "edits of custom resources are not recorded; set EVENT_LOG_URL"


@asynccontextmanager
async def api(folder: Path, **more: str) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """A running api and its address."""
    (folder / "access").mkdir()
    port, metrics = map(str, free_ports(2))
    environ = KEYS | {
        "STORE_URL": f"chdb://{folder / 'store'}",
        "ACCESS_URL": f"dir://{folder / 'access'}",
        "API_PORT": port,
        "METRICS_PORT": metrics,
        **more,
    }
    stop = asyncio.Event()
    running = asyncio.create_task(wiring.run(config.load(Settings, environ), "api", stop))
    async with aiohttp.ClientSession(headers=ADMIN) as http:
        await ready(http, environ)
        yield http, f"http://127.0.0.1:{port}/api"
        stop.set()
        await running


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if r.name == "backend.wiring_history"]


async def answer(http: aiohttp.ClientSession, url: str) -> tuple[int, dict[str, Any]]:
    async with http.get(url) as given:
        return given.status, await given.json(content_type=None)


async def test_without_an_event_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It answers questions; that it records no edits is said once, and dead letters say why not."""
    with caplog.at_level(logging.WARNING):
        async with api(tmp_path) as (http, url):
            assert (await answer(http, f"{url}/events"))[0] == 200
            status, problem = await answer(http, f"{url}/dlq")
    assert (status, "KAFKA_BROKERS" in problem["detail"]) == (404, True)
    assert warnings(caplog) == [WARNING]
    assert not any(record.name == "backend.history.watch" for record in caplog.records)


async def test_with_brokers_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """KAFKA_BROKERS names an event log as well as EVENT_LOG_URL does: here one that is away."""
    brokers = f"127.0.0.1:{free_ports(1)[0]}"
    async with api(tmp_path, KAFKA_BROKERS=brokers) as (http, url):
        assert (await answer(http, f"{url}/dlq"))[0] == 503
    assert WARNING not in warnings(caplog)

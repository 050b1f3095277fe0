"""Components of one process restart under load: no event is lost, and nobody is turned away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import pytest

from backend import wiring
from backend.settings import Settings
from extauthz.core import config
from tests.tools.ports import free_ports
from tests.tools.waiting import SECONDS, soon

INGEST, ADMIN = {"x-api-key": "ingest"}, {"x-api-key": "admin"}
ENOUGH = 15  # requests of each kind around each restart


class Load:
    """Producers that never send twice, and people who ask; each on connections of their own."""

    def __init__(self, http: aiohttp.ClientSession, ingest: str, api: str) -> None:
        self._http, self._ingest, self._api = http, ingest, api
        self.taken: list[str] = []
        self.asked = 0

    async def produce(self) -> None:
        while True:
            event_id = str(uuid4())
            event = {"event_id": event_id, "source": "s", "event_type": "x", "payload": {}}
            async with self._http.post(self._ingest, json=event, headers=INGEST) as answer:
                assert answer.status == 202, await answer.text()
            self.taken.append(event_id)

    async def ask(self) -> None:
        while True:
            async with self._http.get(f"{self._api}/api/stats", headers=ADMIN) as answer:
                assert answer.status == 200, await answer.text()
            self.asked += 1

    async def goes_on(self) -> None:
        taken, asked = len(self.taken) + ENOUGH, self.asked + ENOUGH
        await soon(lambda: len(self.taken) >= taken and self.asked >= asked, "the load goes on")


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """Addresses of a running backend."""
    (tmp_path / "access").mkdir()
    ingest, api, metrics = free_ports(3)
    environ = {
        "ADMIN_API_KEYS": "admin",
        "INGEST_API_KEYS": "ingest",
        "EVENT_LOG_URL": f"sqlite://{tmp_path / 'log.db'}",
        "STORE_URL": f"chdb://{tmp_path / 'store'}",
        "ACCESS_URL": f"dir://{tmp_path / 'access'}",
        "FLUSH_INTERVAL": "0.05s",
        "INGEST_PORT": str(ingest),
        "API_PORT": str(api),
        "METRICS_PORT": str(metrics),
        "RESTART_COOLDOWN_SECONDS": "0",
    }
    settings, stop = config.load(Settings, environ), asyncio.Event()
    running = asyncio.create_task(wiring.run(settings, "all", stop))
    names = {"ingest": ingest, "api": api, "metrics": metrics}
    yield {name: f"http://127.0.0.1:{port}" for name, port in names.items()}
    stop.set()
    await running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(force_close=True)
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield session


async def told(http: aiohttp.ClientSession, url: str) -> Any:
    async with http.get(url, headers=ADMIN) as answer:
        return await answer.json()


async def ready(http: aiohttp.ClientSession, backend: dict[str, str]) -> None:
    async def is_ready() -> bool:
        try:
            async with http.get(f"{backend['metrics']}/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    await soon(is_ready, "the backend is ready", every=0.02)


async def restarted(http: aiohttp.ClientSession, api: str, key: str) -> None:
    """Restart one component, and wait until it serves again."""

    async def state() -> dict[str, Any]:
        components = (await told(http, f"{api}/api/runtime/components"))["components"]
        return next(each for each in components if each["key"] == key)

    before = await state()
    assert before["status"] == "Ready", before
    url, body = f"{api}/api/v1/runtime/actions/restart", {"component": key}
    async with http.post(url, json=body, headers=ADMIN) as answer:
        assert await answer.json() == {"success": True, "component": key}

    async def is_back() -> bool:
        now = await state()
        return now["restarts"] > before["restarts"] and now["status"] == "Ready"

    await soon(is_back, f"{key} serves again", every=0.02)


async def test_each_component_restarts_under_load(
    http: aiohttp.ClientSession, backend: dict[str, str]
) -> None:
    """Every request is answered as always, and what was taken is stored, once."""
    async with asyncio.timeout(SECONDS):
        await ready(http, backend)
        load = Load(http, f"{backend['ingest']}/events", backend["api"])
        work = [asyncio.create_task(load.produce()) for _ in range(4)]
        work += [asyncio.create_task(load.ask()) for _ in range(2)]
        for key in ("ingest", "processor", "api"):
            await load.goes_on()
            await restarted(http, backend["api"], key)
        await load.goes_on()
        for each in work:
            each.cancel()
        ended = await asyncio.gather(*work, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
        await ready(http, backend)
        await stored_once(http, backend["api"], load.taken)


async def stored_once(http: aiohttp.ClientSession, api: str, taken: list[str]) -> None:
    """Return once the trail has them all; it has none twice, and tells of the restarts."""
    missing = set(taken)
    while missing:
        missing -= {event["event_id"] for event in await events(http, api)}
        await asyncio.sleep(0.05)
    found = await events(http, api)
    ids = [event["event_id"] for event in found]
    assert len(ids) == len(set(ids))
    tellings = [event for event in found if event["event_type"] == "governance.restart"]
    assert [each["payload"]["component"] for each in tellings] == ["api", "processor", "ingest"]
    assert all(each["producer"] == "api" for each in tellings)
    assert all(each["payload"]["actor"].startswith("key-") for each in tellings)


async def events(http: aiohttp.ClientSession, api: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    page = f"{api}/api/events?limit=1000"
    while page:
        answer = await told(http, page)
        found += answer["events"]
        cursor = answer["meta"].get("next_cursor", "")
        page = f"{api}/api/events?limit=1000&cursor={cursor}" if cursor else ""
    return found


async def test_a_component_that_is_restarted_says_that_it_is_not_ready(
    http: aiohttp.ClientSession, backend: dict[str, str]
) -> None:
    """From the drain to the next start the process is not ready; then it is again."""
    metrics = backend["metrics"]

    async def is_held() -> bool:
        async with http.get(f"{metrics}/metrics") as answer:
            return "ingest_held_bytes 1.0" in await answer.text()

    async def is_draining() -> bool:
        async with http.get(f"{metrics}/ready") as answer:
            return answer.status == 503

    await ready(http, backend)
    # A request that is not whole yet: the drain waits for it.
    _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(backend["ingest"]).port)
    head = "POST /events HTTP/1.1\r\nHost: a\r\nx-api-key: ingest\r\nContent-Length: 9\r\n\r\n{"
    writer.write(head.encode())
    await soon(is_held, "the request is under way")
    url = f"{backend['api']}/api/runtime/actions/restart"
    async with http.post(url, json={"all": True}, headers=ADMIN) as answer:
        assert await answer.json() == {"success": True, "restarted": "all"}
    await soon(is_draining, "it is not ready")
    writer.close()
    await ready(http, backend)

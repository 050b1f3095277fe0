"""What ingest answers when the log is away, slow or full, and how it stops."""

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from backend.adapters.sqlite_log import SqliteLog
from backend.auth.api_keys import Anyone
from backend.ingest.app import Limits, create_app
from backend.lifecycle import Units
from backend.metrics import IngestMetrics, new_registry
from backend.operations import Health
from backend.ports.event_log import Message
from backend.serving import HttpUnit
from extauthz.core.errors import Busy
from tests.tools.waiting import soon
from tests.unit.backend.ingest.conftest import NEW_ID, NOW, Client, Logged, NewClient
from tests.unit.backend.ingest.test_ingest import GOOD


class Gated:
    """A log whose appends wait until a test lets them through."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log
        self.gate, self.waiting = asyncio.Event(), asyncio.Event()
        self.failure: Exception | None = None

    async def append(self, messages: Sequence[Message]) -> None:
        self.waiting.set()
        await self.gate.wait()
        if self.failure:
            raise self.failure
        await self._log.append(messages)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


@pytest.fixture
def gated(log: SqliteLog) -> Gated:
    return Gated(log)


async def held(client: Client) -> float:
    text = await (await client.get("/metrics")).text()
    (line,) = (line for line in text.splitlines() if line.startswith("ingest_held_bytes "))
    return float(line.split()[1])


async def test_a_log_that_is_away(client: Client, log: SqliteLog) -> None:
    """503 with Retry-After, and not ready, though alive."""
    assert (await client.get("/ready")).status == 200
    await log.stop()
    answer = await client.post("/events", json=GOOD)
    assert (answer.status, (await answer.json())["error"]) == (503, "enqueue_failed")
    assert int(answer.headers["Retry-After"]) > 0
    assert (await client.get("/ready")).status == 503
    assert (await client.get("/health")).status == 200
    assert (await client.get("/live")).status == 200


async def test_a_log_that_is_full(new_client: NewClient, gated: Gated) -> None:
    """The same answer; what was held is given back."""
    gated.failure = Busy("the log is full; make room")
    gated.gate.set()
    client = await new_client(gated)
    answer = await client.post("/events", json=GOOD)
    assert (answer.status, (await answer.json())["error"]) == (503, "enqueue_failed")
    assert int(answer.headers["Retry-After"]) > 0
    assert await held(client) == 0


async def test_202_waits_for_the_log(new_client: NewClient, gated: Gated, logged: Logged) -> None:
    """No answer before the log has every event."""
    client = await new_client(gated)
    posting = asyncio.create_task(client.post("/events", json=[GOOD, GOOD]))
    await gated.waiting.wait()
    assert not posting.done()
    assert await logged.records() == []
    gated.gate.set()
    assert (await posting).status == 202
    assert len(await logged.records()) == 2


async def test_a_log_that_is_slow(new_client: NewClient, gated: Gated, logged: Logged) -> None:
    """The wait is bounded; what the log still works on keeps its room until it is done."""
    client = await new_client(gated, wait_seconds=0.05)
    answer = await client.post("/events", json=GOOD)
    problem = await answer.json()
    assert (answer.status, problem["error"]) == (503, "enqueue_failed")
    assert "again" in problem["detail"]
    assert await held(client) > 0
    gated.gate.set()

    async def is_free() -> bool:
        return not await held(client)

    await soon(is_free, "its room is free")
    assert len(await logged.records()) == 1  # the copy that comes will be marked as resent


async def answers(port: int) -> bool:
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/live"),
        ):
            return True
    except aiohttp.ClientError:
        return False


async def test_stop_answers_what_was_asked(log: SqliteLog, gated: Gated, logged: Logged) -> None:
    """On stop nothing new is accepted, and requests under way get their answer."""

    def new_app() -> Any:
        return create_app(
            log=gated,  # type: ignore[arg-type]
            verifier=Anyone(),
            ready=Health({}).faults,
            metrics=IngestMetrics(new_registry()),
            clock=lambda: NOW,
            monotonic=lambda: 0.0,
            new_id=lambda: NEW_ID,
            limits=Limits(1 << 20, 64 << 20, 30.0),
        )

    unit, stop = HttpUnit("ingest", new_app, "127.0.0.1", 0, inflates=False), asyncio.Event()
    running = asyncio.create_task(Units(20.0, lambda: NOW).run([unit], stop))
    await soon(lambda: unit.port, "ingest listens")
    url = f"http://127.0.0.1:{unit.port}/events"
    async with aiohttp.ClientSession() as session:
        posting = asyncio.create_task(session.post(url, json=GOOD))
        await gated.waiting.wait()
        stop.set()

        async def is_closed() -> bool:
            return not await answers(unit.port)

        await soon(is_closed, "nothing new is accepted")
        gated.gate.set()
        assert (await posting).status == 202
    await running
    assert len(await logged.records()) == 1


async def test_a_clock_that_jumps(log: SqliteLog) -> None:
    """Ingest's own clock, set back while it runs, makes no event one of the future."""
    clock = [NOW]
    app = create_app(
        log=log,
        verifier=Anyone(),
        ready=Health({}).faults,
        metrics=IngestMetrics(new_registry()),
        clock=lambda: clock[0],
        monotonic=lambda: 0.0,
        new_id=lambda: NEW_ID,
        limits=Limits(1 << 20, 64 << 20, 30.0),
    )
    async with TestClient(TestServer(app)) as client:
        clock[0] = NOW - 7200
        sent = GOOD | {"timestamp": "2026-09-21T14:13:20Z"}
        assert (await client.post("/events", json=sent)).status == 202

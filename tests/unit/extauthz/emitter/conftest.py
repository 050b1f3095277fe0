"""A real HTTP ingest on loopback that can be told to fail, and emitters that talk to it."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import uuid_utils
from aiohttp import web

from extauthz.core.decision import Decision, Effect, PolicyFacts
from extauthz.core.events import Asked
from extauthz.core.reasons import Reason
from extauthz.core.request import Call, Identity
from extauthz.emitter import Emitter, EmitterOptions
from tests.tools.waiting import SECONDS


class TestIngest:
    """What arrives is in `received`, in order, whether or not it was answered well.

    Attributes:
        behaviour: `accept`, an HTTP status, `stall` (never answers), `die` (takes the
            batch, then cuts the connection).
        poison: text; a batch that holds it is not taken.
        refusal: status that poison is answered with; 403 names the event.
        requests: how many came; those under way included.
        headers: of the last request.
    """

    __test__ = False

    def __init__(self) -> None:
        self.behaviour: str | int = "accept"
        self.poison = b""
        self.refusal = 400
        self.received: list[dict[str, Any]] = []
        self.requests = 0
        self.headers: dict[str, str] = {}
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.read()
        self.headers = dict(request.headers)
        if self.behaviour == "stall":
            await asyncio.sleep(3600)
        if isinstance(self.behaviour, int):
            return web.json_response({"error": "told to"}, status=self.behaviour)
        if self.poison and self.poison in body:
            place = next(n for n, line in enumerate(body.splitlines()) if self.poison in line)
            problem = {"error": "refused", "field": f"[{place}].payload.namespace"}
            return web.json_response(problem, status=self.refusal)
        self.received += map(orjson.loads, body.splitlines())
        if self.behaviour == "die":
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"ok": True}, status=202)

    def of(self, event_type: str) -> list[dict[str, Any]]:
        """Payloads of one type, in order of arrival."""
        return [event["payload"] for event in self.received if event["event_type"] == event_type]

    def check_accounts(self, taken: dict[str, int]) -> None:
        """Prove that received and told as missing make up all that was taken.

        Args:
            taken: for each gateway_start, how many sequences it took.
        """
        accounted: dict[str, set[int]] = defaultdict(set)
        ids: set[str] = set()
        for event in self.received:
            assert event["event_id"] not in ids or event.get("resent") is True
            ids.add(event["event_id"])
            payload = event["payload"]
            accounted[payload["gateway_start"]].add(payload["sequence"])
            if event["event_type"] == "audit.gap":
                told = range(payload["first"], payload["last"] + 1)
                assert payload["count"] == len(told)
                accounted[payload["lost_gateway_start"]].update(told)
        for gateway_start, count in taken.items():
            assert accounted[gateway_start] == set(range(1, count + 1))


@pytest.fixture
async def ingest() -> AsyncIterator[TestIngest]:
    told = TestIngest()
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_post("/events", told.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    told.url = f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    yield told
    await runner.cleanup()


@pytest.fixture
def options(ingest: TestIngest, tmp_path: Path) -> dict[str, Any]:
    """Waits are short; a test that must not meet one makes it endless."""
    return {
        "ingest_url": ingest.url,
        "spool_folder": tmp_path / "spool",
        "api_key": "s3cret-key",
        "gateway": "gateway-0",
        "server": "billing",
        "namespace": "team-a",
        "completion_wait_seconds": 0.02,
        "flush_seconds": 0.01,
        "heartbeat_seconds": 3600.0,
        "request_timeout_seconds": SECONDS,
        "slow_seconds": 1.0,
        "retry_max_seconds": 0.02,
    }


@pytest.fixture
def running(options: dict[str, Any]) -> Callable[..., Any]:
    """An emitter that runs inside `async with`; keywords replace options."""

    @asynccontextmanager
    async def run(stop_seconds: float = 10.0, **changed: Any) -> AsyncIterator[Emitter]:
        emitter = Emitter(
            EmitterOptions(**options | changed), time.time, lambda: str(uuid_utils.uuid7())
        )
        await emitter.start()
        try:
            yield emitter
        finally:
            await emitter.stop(stop_seconds)

    return run


@pytest.fixture
def record() -> Callable[..., Awaitable[Decision]]:
    """Record one call: `await record(emitter, tool="echo", effect="deny")`."""

    async def call(
        emitter: Emitter, tool: str = "echo", effect: str = "allow", path: str = "/mcp"
    ) -> Decision:
        asked = Asked("POST", path, request_id="r-1", trace_id="4bf92f3577b34da6a3ce929d0e0e4736")
        decision = Decision(
            Effect(effect),
            Reason.ALLOWED if effect == "allow" else Reason.TOOL_DENIED,
            PolicyFacts("billing", "team-a"),
            Call(method="tools/call", tool=tool),
            Identity("ann", "bot"),
            tool_declared=True,
        )
        # In a thread, as the server does: a test may have the event loop stand in for the disk.
        [recorded] = await asyncio.to_thread(emitter.record, [(asked, decision)])
        return recorded

    return call

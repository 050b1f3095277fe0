"""Ingest on a free port, as it is served."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from backend.adapters.sqlite_log import SqliteLog
from backend.auth.api_keys import ApiKey, ApiKeys, digest_of, from_lists
from backend.auth.principal import Component, Origins, Principal, Scope
from backend.ingest.app import Limits, create_app
from backend.metrics import IngestMetrics, new_registry
from backend.operations import Health
from backend.ports.event_log import Assignment, EventLog, Record

NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z
NEW_ID = "01990000-0000-7000-8000-000000000000"

Client = TestClient[Any, Any]
NewClient = Callable[..., Awaitable[Client]]


def named(name: str, origins: Origins | None = None, component: Component | None = None) -> ApiKey:
    """A key for ingest whose text is its name."""
    scopes = frozenset({Scope.INGEST})
    return ApiKey(digest_of(name), Principal(name, scopes, None, origins, component))


KEYS = (
    *from_lists([], ["admin"], ["k"]),
    named("of-team-a", Origins(frozenset({"team-a"}))),
    named("of-billing", Origins(frozenset(), frozenset({("team-a", "billing")}))),
    named("of-the-api", None, Component.API),
)


class _Nobody:
    async def assigned(self, assignment: Assignment) -> None: ...

    async def revoked(self) -> None: ...


class Logged:
    """What lies in the log."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log

    async def records(self) -> list[Record]:
        consumer = self._log.consumer("test")
        await consumer.start(_Nobody())
        records = await consumer.fetch(100_000, 0)
        await consumer.stop()
        return list(records)

    async def events(self) -> list[dict[str, Any]]:
        return [json.loads(record.value) for record in await self.records()]


@pytest.fixture
async def new_client(log: SqliteLog) -> AsyncIterator[NewClient]:
    """Serves ingest over a log, with other limits than the usual where a test names them."""
    async with AsyncExitStack() as opened:

        async def make(into: EventLog = log, **limits: float) -> Client:
            usual: dict[str, Any] = {"request_bytes": 4 << 20, "held_bytes": 64 << 20}
            app = create_app(
                log=into,
                verifier=ApiKeys(KEYS),
                ready=Health({"event_log": into.ping}).faults,
                metrics=IngestMetrics(new_registry()),
                clock=lambda: NOW,
                monotonic=lambda: 0.0,
                new_id=lambda: NEW_ID,
                limits=Limits(**usual | {"wait_seconds": 30.0} | limits),
            )
            server = TestServer(app)
            await server.start_server(auto_decompress=False)
            client = await opened.enter_async_context(TestClient(server))
            client.session.headers["x-api-key"] = "k"
            return client

        yield make


@pytest.fixture
async def client(new_client: NewClient) -> Client:
    return await new_client()


@pytest.fixture
def logged(log: SqliteLog) -> Logged:
    return Logged(log)

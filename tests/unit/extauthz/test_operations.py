"""What operators see over HTTP."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from extauthz.core.compile import compile_document
from extauthz.core.decision import PolicyFacts
from extauthz.core.errors import Invalid
from extauthz.core.events import Cause
from extauthz.core.manifests import Fault
from extauthz.emitter import Counts
from extauthz.metrics import StateCollector
from extauthz.operations import Operations, Process
from extauthz.sources.policies import Policies

PROCESS = Process("1.2.3", 42, 0.5, "file /p.json", ("LOG_LEVEL=debug",))
COUNTS = Counts(
    offered=3,
    recovered=0,
    sent=2,
    resent=0,
    spooled=1,
    pending=0,
    dropped={Cause.QUEUE_FULL: 7},
    joined=0,
    late=0,
    running=1,
    spool_bytes=4096,
    faults=0,
    away=True,
)


class World:
    """Operations on a free port, with a client."""

    def __init__(self) -> None:
        self.policies = Policies(PolicyFacts(server="demo", namespace="home"))
        self.counts: Counts | None = None
        registry = CollectorRegistry()
        registry.register(StateCollector(self.policies, lambda: self.counts))
        self.operations = Operations(PROCESS, self.policies, lambda: self.counts, registry)

    def run_policy(self) -> None:
        document = {"server": {"name": "demo", "namespace": "home"}}
        self.policies.run(compile_document(document), confirmed_at=60.0, now=60.0)

    async def get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.operations.port}{path}"
        async with aiohttp.request("GET", url) as response:
            return response.status, await response.text()

    async def status(self) -> dict[str, object]:
        url = f"http://127.0.0.1:{self.operations.port}/config/status"
        async with aiohttp.request("GET", url) as response:
            found: dict[str, object] = await response.json()
            return found


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.operations.start("127.0.0.1", 0)
    yield made
    await made.operations.stop()


async def test_health(world: World) -> None:
    """The process is alive from the first, with or without a policy."""
    assert await world.get("/health") == (200, "ok")
    assert await world.get("/live") == (200, "ok")
    world.operations.alive = False
    assert (await world.get("/live"))[0] == 503
    world.operations.alive = True


async def test_ready(world: World) -> None:
    """Ready where it has a valid policy and serves; else it says what is wrong."""
    world.operations.serving = True
    world.policies.report((Fault("p.json", 0, "$", "is broken", "mend it"),))
    assert await world.get("/ready") == (503, "no policy: p.json: $: is broken; mend it\n")
    world.run_policy()
    assert await world.get("/ready") == (200, "ok, but p.json: $: is broken; mend it\n")
    world.policies.report(())
    assert await world.get("/ready") == (200, "ok\n")
    world.operations.serving = False
    assert await world.get("/ready") == (503, "is starting or draining\n")


async def test_metrics(world: World) -> None:
    """Prometheus reads policy and emitter as of now."""
    world.run_policy()
    world.counts = COUNTS
    _, text = await world.get("/metrics")
    assert 'mcp_gateway_policy_reloads_total{cluster="",namespace="home",result="success"' in text
    revision = world.policies.current.facts.revision
    assert f'revision="{revision}"' in text
    for line in (
        'mcp_gateway_events_total{result="sent"} 2.0',
        'mcp_gateway_events_dropped_total{cause="queue_full"} 7.0',
        "mcp_gateway_events_spooled 1.0",
        "mcp_gateway_ingest_away 1.0",
    ):
        assert line in text


async def test_status(world: World) -> None:
    """The status tells policy, faults with place and mend, events, process."""
    world.operations.serving = True
    before = await world.status()
    assert (before["ready"], before["events"]) == (False, None)
    assert before["fault"] == f"no policy: {world.policies.current.fault}"
    world.run_policy()
    world.counts = COUNTS
    world.policies.report((Fault("a.yaml", 3, "spec.x", "is odd", "mend it"),))
    status = await world.status()
    assert (status["pid"], status["version"], status["source"]) == (42, "1.2.3", "file /p.json")
    assert status["started_at"] == "1970-01-01T00:00:00.500Z"
    assert (status["ready"], status["fault"], status["settings"]) == (True, "", ["LOG_LEVEL=debug"])
    assert status["server"] == {"name": "demo", "namespace": "home", "cluster": "", "team_id": ""}
    assert status["policy"] == {
        "revision": world.policies.current.facts.revision,
        "version": "",
        "mode": "allow-list",
        "generated_at": "",
        "confirmed_at": "1970-01-01T00:01:00.000Z",
        "changed_at": "1970-01-01T00:01:00.000Z",
    }
    assert status["faults"] == [
        {
            "file": "a.yaml",
            "line": 3,
            "field": "spec.x",
            "problem": "is odd",
            "mend": "mend it",
            "text": "a.yaml:3: spec.x: is odd; mend it",
        }
    ]
    events = status["events"]
    assert isinstance(events, dict)
    assert (events["sent"], events["dropped"]) == (2, {"queue_full": 7})


async def test_port_taken(world: World) -> None:
    """A port that is taken stops the start, with the setting and the mend."""
    with pytest.raises(Invalid, match=r"^METRICS_PORT: `\d+` on `127.0.0.1` cannot be bound"):
        await World().operations.start("127.0.0.1", world.operations.port)

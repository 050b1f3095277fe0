"""What every Cluster must do, run against each adapter."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Protocol

import pytest
from rich.console import Console

from backend.adapters.local_cluster import LocalCluster, OwnComponent
from backend.adapters.local_keeper import Keeper
from backend.cli.control import Control
from backend.cli.processes import Program
from backend.cli.supervisor import Supervisor
from backend.lifecycle import Units
from backend.operations import Health, Probe
from backend.ports.cluster import (
    ALWAYS_TOLD,
    DISPLAY,
    Cluster,
    ComponentState,
    Kept,
    ServerState,
    SidecarState,
    Status,
    not_deployed,
)
from extauthz.core.errors import Conflict, NotFound, Retryable
from tests.tools.log_thread import LogThread
from tests.tools.waiting import eventually

VERSION = "1.2.3"


class Told:
    """A task that writes down what happens to it, and drains when it is let."""

    def __init__(self, name: str, told: list[str], drains: threading.Event) -> None:
        self.name, self._told, self._drains = name, told, drains

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        self._told.append(f"{self.name} starts")
        ready()
        await stop.wait()
        await asyncio.to_thread(self._drains.wait, 30)
        self._told.append(f"{self.name} drained")


@dataclass
class World:
    """A cluster, and a hand on what it runs.

    Args:
        runs: components that it can restart.
        absent: one that is not deployed; empty where it knows of none.
    """

    cluster: Cluster
    runs: Sequence[str]
    absent: str
    told: list[str] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    drains: threading.Event = field(default_factory=threading.Event)

    def state(self, key: str) -> ComponentState:
        return next(each for each in self.cluster.components() if each.key == key)

    def serves(self, key: str, restarts: int) -> bool:
        state = self.state(key)
        return state.restarts == restarts and state.status is Status.READY


class Running(Protocol):
    def __call__(self, keeper: Keeper | None = None, runs: Sequence[str] = ()) -> World: ...


@pytest.fixture
def thread() -> Iterator[LogThread]:
    started = LogThread()
    yield started
    started.stop()


@pytest.fixture
def running(thread: LogThread) -> Iterator[Running]:
    """Makes a cluster of this process's tasks."""
    worlds: list[tuple[World, asyncio.Event, Future[None]]] = []

    def made(keeper: Keeper | None = None, runs: Sequence[str] = ()) -> World:
        units, stop, own = Units(30.0, lambda: 1_000.0), asyncio.Event(), ("processor", "api")
        world = World(None, (*own, *runs), "ui" if keeper else "")  # type: ignore[arg-type]
        world.drains.set()

        def probe(key: str) -> Probe:
            async def ask() -> None:
                if fault := world.faults.get(key):
                    raise Retryable(fault)

            return ask

        parts = {
            key: OwnComponent(
                Health({"store": probe(key)}), (lambda: 7) if key == "processor" else None
            )
            for key in own
        }
        world.cluster = LocalCluster(units, parts, thread.loop, keeper=keeper, version=VERSION)
        tasks = [Told(key, world.told, world.drains) for key in own]
        future = asyncio.run_coroutine_threadsafe(units.run(tasks, stop), thread.loop)
        worlds.append((world, stop, future))
        eventually(lambda: all(world.serves(key, 0) for key in world.runs), "all serve")
        return world

    yield made
    for world, stop, future in worlds:
        world.drains.set()
        thread.loop.call_soon_threadsafe(stop.set)
        future.result(30)


class Supervised:
    """A supervisor with one program, behind its socket."""

    def __init__(self, folder: Path, thread: LogThread) -> None:
        self._thread, self.path = thread, folder / "control.sock"
        code = "import time; time.sleep(600)"
        program = Program(
            name="decision-point",
            argv=(sys.executable, "-c", code),
            environ=dict(os.environ),
            cwd=folder,
            log=folder / "log",
            is_ready=self._is_ready,
        )
        console = Console(file=StringIO())
        self.supervisor = Supervisor([[program]], ("decision-point",), console, lambda: None)
        self.control = Control(self.path, self.supervisor, self._describe)

    def start(self) -> None:
        self._thread.run(self._start())

    async def _start(self) -> None:
        await self.control.start()
        await self.supervisor.start()
        self._keeping = asyncio.create_task(self.supervisor.keep())
        await asyncio.sleep(0)

    def stop(self) -> None:
        self._thread.run(self._stop())

    async def _stop(self) -> None:
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)
        await self.supervisor.stop()
        await self.control.stop()

    async def _is_ready(self) -> bool:
        return True

    async def _describe(self) -> Kept:
        (child,) = self.supervisor.children
        sidecar = ComponentState(
            key="sidecar",
            display=DISPLAY["sidecar"],
            status=Status.READY if child.pid else Status.NOT_READY,
            restarts=child.starts - 1,
        )
        runs = SidecarState(name="sidecar", revision="sha256:1", is_ready=True)
        server = ServerState(
            namespace="mcp-servers",
            name="shop",
            endpoint="http://127.0.0.1:1/mcp",
            ready=1,
            wanted=1,
            cluster="",
            sidecars=(runs,),
        )
        absent = (not_deployed("ui", "none runs"), not_deployed("gateway", "none runs"))
        return Kept((*absent, sidecar), (server,))


@pytest.fixture
def kept(
    tmp_path: Path, thread: LogThread, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Supervised]:
    """In a folder whose path is longer than a socket's may be, and which its clients work in."""
    folder = tmp_path / ("deep" * 30)
    folder.mkdir()
    monkeypatch.chdir(folder)
    supervised = Supervised(folder, thread)
    supervised.start()
    yield supervised
    supervised.stop()


@pytest.fixture(params=["tasks", "tasks and supervisor"])
def world(request: pytest.FixtureRequest, running: Running) -> World:
    if request.param == "tasks":
        return running()
    supervised: Supervised = request.getfixturevalue("kept")
    return running(Keeper(supervised.path.name), ["sidecar"])


def test_each_component_is_told_once_in_order(world: World) -> None:
    """mcp-runtime's five are always among them, and each says what it is."""
    found = world.cluster.components()
    keys = [each.key for each in found]
    assert keys == [key for key in DISPLAY if key in keys]
    assert set(ALWAYS_TOLD) <= set(keys)
    assert all(each.display == DISPLAY[each.key] for each in found)


def test_what_serves_is_ready(world: World) -> None:
    """With its version, its start and what waits for it; nothing is wrong."""
    state = world.state("processor")
    assert (state.status, state.ready, state.message) == (Status.READY, "1/1", "")
    assert (state.version, state.started_at) == (VERSION, "1970-01-01T00:16:40.000Z")
    assert (state.lag, world.state("api").lag) == (7, None)


def test_what_lacks_something_is_degraded(world: World) -> None:
    """Its message says what, and the last error stays when it is over."""
    world.faults["processor"] = "the store is away"
    state = world.state("processor")
    assert (state.status, state.message) == (Status.DEGRADED, "store: the store is away")
    world.faults.clear()
    state = world.state("processor")
    assert (state.status, state.message) == (Status.READY, "")
    assert state.last_error == "the store is away"


def test_what_is_not_there_is_not_invented(world: World) -> None:
    """It is not deployed, or cannot be reached, and its message says why or where to look."""
    for key in set(ALWAYS_TOLD) - set(world.runs):
        state = world.state(key)
        assert state.status in {Status.NOT_DEPLOYED, Status.UNKNOWN}
        assert state.message
        assert not state.started_at
        assert state.lag is None


def test_a_restart(world: World) -> None:
    """It begins at once, and the state tells when it serves again; the others go on."""
    for key in world.runs:
        world.cluster.restart([key])
        eventually(lambda key=key: world.serves(key, 1), f"{key} serves again")  # type: ignore[misc]
    assert all(world.serves(key, 1) for key in world.runs)


def test_a_restart_does_not_wait_for_the_drain(world: World) -> None:
    """While it drains it is not ready, and who asked has the answer."""
    world.drains.clear()
    world.cluster.restart(["processor"])
    eventually(lambda: world.state("processor").status is Status.NOT_READY, "it drains")
    assert world.state("api").status is Status.READY
    world.drains.set()
    eventually(lambda: world.serves("processor", 1), "it serves again")


def test_restarts_follow_one_another(world: World) -> None:
    """Whatever the order of the question, the api comes last."""
    del world.told[:]
    world.cluster.restart(list(reversed(world.runs)))
    for key in world.runs:
        eventually(lambda key=key: world.serves(key, 1), f"{key} serves again")  # type: ignore[misc]
    assert world.told == ["processor drained", "processor starts", "api drained", "api starts"]


def test_what_is_not_there_cannot_be_restarted(world: World) -> None:
    """Nothing is restarted then, whatever stood beside it."""
    error = NotFound if world.absent else Conflict
    with pytest.raises(error, match="`ui`"):
        world.cluster.restart(["processor", "ui"])
    with pytest.raises(NotFound, match="`controller` is not deployed"):
        world.cluster.restart(["controller"])
    assert world.serves("processor", 0)


def test_servers(world: World) -> None:
    """Those that it knows to run."""
    names = [(each.namespace, each.name) for each in world.cluster.servers()]
    assert names == ([("mcp-servers", "shop")] if world.absent else [])


def test_a_supervisor_that_is_gone(running: Running, kept: Supervised) -> None:
    """What it knew is unknown, the mend is told; this process's own components go on."""
    world = running(Keeper("gone.sock"))
    state = world.state("gateway")
    assert state.status is Status.UNKNOWN
    assert "look whether `sentinel up` still runs" in state.message
    with pytest.raises(Retryable, match="the supervisor does not answer"):
        world.cluster.servers()
    world.cluster.restart(["processor"])
    eventually(lambda: world.serves("processor", 1), "it serves again")


def test_a_supervisor_s_socket_is_its_owner_s_alone(kept: Supervised) -> None:
    """Mode 0600."""
    assert kept.path.stat().st_mode & 0o777 == 0o600

"""What every Cluster must do, run against each adapter."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

import pytest

from backend.adapters.local_cluster import LocalCluster, OwnComponent
from backend.adapters.local_keeper import Keeper
from backend.lifecycle import Units
from backend.operations import Health, Probe
from backend.ports.cluster import ALWAYS_TOLD, DISPLAY, Status
from extauthz.core.errors import Conflict, NotFound, Retryable
from extauthz.core.times import parse_instant
from tests.contract.clusters import VERSION, Supervised, Told, World, start_of
from tests.contract.kubernetes_world import deployed
from tests.tools.kube_cluster import KubeCluster, governed_cluster
from tests.tools.kubelet_double import KubeletDouble, joined
from tests.tools.log_thread import LogThread
from tests.tools.waiting import eventually

Joined = tuple[KubeCluster, KubeletDouble]


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
        eventually(lambda: all(world.serves(key) for key in world.runs), "all serve")
        return world

    yield made
    for world, stop, future in worlds:
        world.drains.set()
        thread.loop.call_soon_threadsafe(stop.set)
        future.result(30)


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


@pytest.fixture(scope="module")
def kubelet(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[KubeCluster, KubeletDouble]]:
    """A cluster with controllers and a node."""
    folder = tmp_path_factory.mktemp("kubernetes")
    with governed_cluster(folder / "cluster") as cluster, joined(cluster, folder) as double:
        cluster.start_controllers()
        yield cluster, double


@pytest.fixture
def kubernetes(kubelet: Joined, thread: LogThread) -> Iterator[World]:
    """The processor and the api as Deployments, in a namespace of their own."""
    with deployed(*kubelet, thread) as world:
        yield world


@pytest.fixture(params=["tasks", "tasks and supervisor", "kubernetes"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "kubernetes":
        found: World = request.getfixturevalue("kubernetes")
        return found
    running: Running = request.getfixturevalue("running")
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
    state = eventually(
        lambda: (found := world.state("processor")).lag is not None and found, "it is asked"
    )
    assert (state.status, state.ready, state.message) == (Status.READY, "1/1", "")
    assert state.version == VERSION
    assert parse_instant(state.started_at, "started_at") > 0
    assert (state.lag, world.state("api").lag) == (7, None)


def test_what_lacks_something_says_so(world: World) -> None:
    """Its message says what, and the last error stays when it is over."""
    world.fail("processor", "the store is away")
    state = eventually(
        lambda: "away" in (found := world.state("processor")).message and found, "it is noticed"
    )
    assert state.status in {Status.DEGRADED, Status.NOT_READY}
    assert state.message == "store: the store is away"
    world.fail("processor", "")
    eventually(lambda: world.serves("processor"), "it is over")
    state = world.state("processor")
    assert state.message == ""
    assert "the store is away" in state.last_error


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
        others = {each: world.state(each) for each in world.runs if each != key}
        before = world.state(key)
        world.cluster.restart([key])
        eventually(lambda: world.serves(key, before), f"{key} serves again")  # noqa: B023
        assert all(start_of(world.state(each)) == start_of(state) for each, state in others.items())


def test_a_restart_does_not_wait_for_the_drain(world: World) -> None:
    """While it drains it is not ready, and who asked has the answer."""
    before = world.state("processor")
    world.hold("processor")
    world.cluster.restart(["processor"])
    eventually(lambda: world.state("processor").status is not Status.READY, "it drains")
    assert world.state("api").status is Status.READY
    world.let("processor")
    eventually(lambda: world.serves("processor", before), "it serves again")


def test_restarts_follow_one_another(world: World) -> None:
    """Whatever the order of the question, the api comes last."""
    before = {key: world.state(key) for key in world.runs}
    del world.told[:]
    world.cluster.restart(list(reversed(world.runs)))
    for key in world.runs:
        eventually(lambda: world.serves(key, before[key]), f"{key} serves again")  # noqa: B023
    assert world.begun() == ["processor", "api"]


def test_a_task_starts_when_it_has_drained(running: Running) -> None:
    """The next one only then."""
    world = running()
    before = world.state("api")
    del world.told[:]
    world.cluster.restart(["api", "processor"])
    eventually(lambda: world.serves("api", before), "both serve again")
    assert world.told == ["processor drained", "processor starts", "api drained", "api starts"]


def test_what_is_not_there_cannot_be_restarted(world: World) -> None:
    """Nothing is restarted then, whatever stood beside it."""
    before = world.state("processor")
    error = NotFound if world.absent else Conflict
    with pytest.raises(error, match="`ui`"):
        world.cluster.restart(["processor", "ui"])
    with pytest.raises(NotFound, match="`controller` is not deployed"):
        world.cluster.restart(["controller"])
    assert world.serves("processor")
    assert start_of(world.state("processor")) == start_of(before)


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
    before = world.state("processor")
    world.cluster.restart(["processor"])
    eventually(lambda: world.serves("processor", before), "it serves again")


def test_a_supervisor_s_socket_is_its_owner_s_alone(kept: Supervised) -> None:
    """Mode 0600."""
    assert kept.path.stat().st_mode & 0o777 == 0o600

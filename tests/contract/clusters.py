"""Clusters to hold to their contract: this process's tasks, and what a supervisor runs."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from rich.console import Console

from backend.cli.control import Control
from backend.cli.processes import Program
from backend.cli.supervisor import Supervisor
from backend.ports.cluster import (
    DISPLAY,
    Cluster,
    ComponentState,
    Kept,
    ServerState,
    SidecarState,
    Status,
    not_deployed,
)
from tests.tools.log_thread import LogThread

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
        told: what happened to them.
    """

    cluster: Cluster
    runs: Sequence[str]
    absent: str
    told: list[str] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    drains: threading.Event = field(default_factory=threading.Event)

    def state(self, key: str) -> ComponentState:
        return next(each for each in self.cluster.components() if each.key == key)

    def serves(self, key: str, since: ComponentState | None = None) -> bool:
        """Args: since: it was started again after that."""
        state = self.state(key)
        began = since is None or start_of(state) != start_of(since)
        return began and state.status is Status.READY

    def fail(self, key: str, fault: str) -> None:
        """It lacks something from now on; nothing any more where `fault` is empty."""
        self.faults[key] = fault

    def hold(self, key: str) -> None:
        """It does not come to the end of a restart until `let`."""
        self.drains.clear()

    def let(self, key: str) -> None:
        self.drains.set()

    def begun(self) -> list[str]:
        """Which components have started, in order."""
        return [each.removesuffix(" starts") for each in self.told if each.endswith(" starts")]


def start_of(state: ComponentState) -> tuple[int, str]:
    return state.restarts, state.started_at


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

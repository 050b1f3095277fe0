"""Starts the units, waits until each is ready, and drains them in order on stop.

A bare TaskGroup would cancel a sibling in the middle of its drain; here each unit
is told to stop, finishes under the common deadline, and only then is cancelled.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from extauthz.core.errors import Conflict

LEAST_SECONDS: Final = 1.0  # for a unit whose turn comes after the deadline
STARTING_OR_DRAINING: Final = "is starting or draining"

_log = logging.getLogger(__name__)


class Unit(Protocol):
    """A restartable task: `run` may be called again after it returned."""

    @property
    def name(self) -> str: ...

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Call `ready` once it serves; after `stop` is set, finish and return."""


@runtime_checkable
class Holding(Protocol):
    """A unit that keeps its place while it is restarted, so that nobody is turned away."""

    def held(self) -> AbstractContextManager[None]:
        """Inside, what comes waits for the next run."""


class TaskUnit:
    """A task without end, as a unit; nothing of it needs to be finished on stop.

    Args:
        work: makes it.
    """

    def __init__(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.name, self._work = name, work

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        task = asyncio.create_task(self._work(), name=self.name)
        ready()
        await _until_stop_or_end(stop, [task])
        if not task.done():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@dataclass(frozen=True, slots=True)
class UnitState:
    """A unit as it is now.

    Args:
        started_at: when it last came to serve, seconds since the epoch; 0 before the first time.
        restarts: how often it was asked to start again.
        fault: why it does not serve; empty where it does.
        last_error: what its drain for a restart failed with; empty where none did.
    """

    started_at: float
    restarts: int
    fault: str
    last_error: str


class Units:
    """The units of a process: run together, each restartable by itself.

    Args:
        drain_seconds: for all of them together at the end, and for one that is restarted.
        clock: seconds since the epoch.
    """

    def __init__(self, drain_seconds: float, clock: Callable[[], float]) -> None:
        self._drain_seconds, self._clock = drain_seconds, clock
        self._running: list[_Running] = []
        self._serves = False
        self._turn = asyncio.Lock()  # one restart at a time: the others go on serving

    async def run(self, units: Sequence[Unit], stop: asyncio.Event) -> None:
        """Run until `stop` or the first failure, then drain.

        Args:
            units: in the order of the drain; they are started in the opposite order, so
                that whoever accepts work comes last and stops first.

        Raises:
            ExceptionGroup: what the units raised, after all have ended.
        """
        try:
            for unit in reversed(units):
                started = _Running(unit, self._clock, self._drain_seconds)
                self._running.insert(0, started)
                if not await _until_ready(started, stop):
                    break
            else:
                self._serves = True
                _log.info("ready", extra={"units": [unit.name for unit in units]})
                await _until_stop_or_end(stop, [each.task for each in self._running])
        finally:
            self._serves = False
            failures = await _drain(self._running, self._drain_seconds)
        if failures:
            raise ExceptionGroup("a component failed", failures)

    async def restart(self, name: str) -> None:
        """Drain one unit, and start it again; return once it serves.

        Raises:
            Conflict: the process is starting or ending.
        """
        async with self._turn:
            found = self._find(name)
            if found is None or not self._serves:
                raise Conflict(f"the process {STARTING_OR_DRAINING}; ask again once it is ready")
            await found.restart()

    def fault(self, name: str = "") -> str:
        """Why a unit, or any of them, should not be asked now; empty where it may."""
        if not (name or self._serves) or any(each.is_ending for each in self._running):
            return STARTING_OR_DRAINING
        chosen = [self._find(name)] if name else self._running
        is_ready = all(each is not None and each.ready.is_set() for each in chosen)
        return "" if is_ready else STARTING_OR_DRAINING

    def state(self, name: str) -> UnitState:
        """A unit as it is now, or before it is started at all."""
        fault, found = self.fault(name), self._find(name)
        if found is None:
            return UnitState(0.0, 0, fault, "")
        return UnitState(found.started_at, found.restarts, fault, found.last_error)

    def _find(self, name: str) -> "_Running | None":
        return next((each for each in self._running if each.unit.name == name), None)


class _Running:
    """A unit that runs, again and again where it is told so."""

    def __init__(self, unit: Unit, clock: Callable[[], float], drain_seconds: float) -> None:
        self.unit, self._clock, self._drain_seconds = unit, clock, drain_seconds
        self.stop, self.ready = asyncio.Event(), asyncio.Event()
        self.started_at, self.restarts, self.last_error = 0.0, 0, ""
        self.is_ending = False
        self._again = False
        self._run = self._start()
        self.task = asyncio.create_task(self._keep(), name=unit.name)

    async def restart(self) -> None:
        """Return once it serves again, or has ended instead."""
        held = self.unit.held() if isinstance(self.unit, Holding) else nullcontext()
        with held:
            self._again = True
            self.restarts += 1
            self.ready.clear()
            self.stop.set()
            _, late = await asyncio.wait([self._run], timeout=self._drain_seconds)
            for run in late:
                _log.warning("not drained in time", extra={"unit": self.unit.name})
                run.cancel()
            await _until_stop_or_end(self.ready, [self.task])
        if self.ready.is_set():
            _log.info("restarted", extra={"unit": self.unit.name})

    def end(self) -> None:
        """Drain, for good."""
        self.is_ending, self._again = True, False
        self.stop.set()

    async def _keep(self) -> None:
        while True:
            try:
                await asyncio.wait([self._run])
            except asyncio.CancelledError:
                self._run.cancel()
                await asyncio.wait([self._run])
                return self._run.result()
            if not self._again:
                return self._run.result()
            if not self._run.cancelled() and (error := self._run.exception()):
                self.last_error = str(error)
                told = {"unit": self.unit.name, "error": str(error)}
                _log.warning("failed while it drained", extra=told)
            self._again = False
            self.stop.clear()
            self._run = self._start()

    def _start(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.unit.run(self.stop, self._serve), name=self.unit.name)

    def _serve(self) -> None:
        self.started_at = self._clock()
        self.ready.set()


async def _until_ready(started: _Running, stop: asyncio.Event) -> bool:
    ready = asyncio.create_task(started.ready.wait())
    await _until_stop_or_end(stop, [ready, started.task])
    ready.cancel()
    return started.ready.is_set() and not stop.is_set() and not started.task.done()


async def _until_stop_or_end(stop: asyncio.Event, tasks: Sequence[asyncio.Task[Any]]) -> None:
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()


async def _drain(running: Sequence[_Running], drain_seconds: float) -> list[Exception]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + drain_seconds
    failures: list[Exception] = []
    for each in running:
        each.end()
        left = max(LEAST_SECONDS, deadline - loop.time())
        await asyncio.wait([each.task], timeout=left)
        if not each.task.done():
            _log.warning("not drained in time", extra={"unit": each.unit.name})
            each.task.cancel()
        (outcome,) = await asyncio.gather(each.task, return_exceptions=True)
        if isinstance(outcome, Exception):
            failures.append(outcome)
    return failures


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT set `stop`."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

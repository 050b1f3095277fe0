"""Starts the units, waits until each is ready, and drains them in order on stop.

A bare TaskGroup would cancel a sibling in the middle of its drain; here each unit
is told to stop, finishes under the common deadline, and only then is cancelled.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

LEAST_SECONDS: Final = 1.0  # for a unit whose turn comes after the deadline

_log = logging.getLogger(__name__)


class Unit(Protocol):
    """A restartable task: `run` may be called again after it returned."""

    @property
    def name(self) -> str: ...

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Call `ready` once it serves; after `stop` is set, finish and return."""


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
class _Running:
    unit: Unit
    stop: asyncio.Event
    ready: asyncio.Event
    task: asyncio.Task[None]


async def run_units(
    units: Sequence[Unit],
    stop: asyncio.Event,
    drain_seconds: float,
    serving: asyncio.Event | None = None,
) -> None:
    """Run until `stop` or the first failure, then drain.

    Args:
        units: in the order of the drain; they are started in the opposite order, so
            that whoever accepts work comes last and stops first.
        drain_seconds: for all of them together.
        serving: is set while all of them are ready and none drains.

    Raises:
        ExceptionGroup: what the units raised, after all have ended.
    """
    running: list[_Running] = []
    serving = serving or asyncio.Event()
    try:
        for unit in reversed(units):
            started = _start(unit)
            running.insert(0, started)
            if not await _until_ready(started, stop):
                break
        else:
            serving.set()
            _log.info("ready", extra={"units": [unit.name for unit in units]})
            await _until_stop_or_end(stop, [each.task for each in running])
    finally:
        serving.clear()
        failures = await _drain(running, drain_seconds)
    if failures:
        raise ExceptionGroup("a component failed", failures)


def _start(unit: Unit) -> _Running:
    stop, ready = asyncio.Event(), asyncio.Event()
    return _Running(unit, stop, ready, asyncio.create_task(unit.run(stop, ready.set)))


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
        each.stop.set()
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

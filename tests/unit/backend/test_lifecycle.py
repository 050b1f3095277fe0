"""Units start in one order, drain in the other, and their failures come out."""

import asyncio
from collections.abc import Callable

import pytest

from backend.lifecycle import TaskUnit, run_units


class Recorded:
    """A unit that writes down what happens to it."""

    def __init__(self, name: str, told: list[str], *, fails: str = "", hangs: bool = False):
        self.name, self._told, self._fails, self._hangs = name, told, fails, hangs

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        self._told.append(f"{self.name} starts")
        if self._fails == "start":
            raise ValueError(self.name)
        ready()
        if self._fails == "later":
            await asyncio.sleep(0)
            raise ValueError(self.name)
        await stop.wait()
        if self._hangs:
            await asyncio.Event().wait()
        if self._fails == "stop":
            raise ValueError(self.name)
        self._told.append(f"{self.name} drained")


async def stopped_at_once(units: list[Recorded], drain_seconds: float = 60) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(run_units(units, stop, drain_seconds))
    await asyncio.sleep(0.05)
    stop.set()
    await running


async def test_who_accepts_work_starts_last_and_stops_first() -> None:
    """The list is the order of the drain; the start is its opposite."""
    told: list[str] = []
    await stopped_at_once([Recorded("ingest", told), Recorded("api", told)])
    assert told == ["api starts", "ingest starts", "ingest drained", "api drained"]


async def test_it_serves_between_start_and_drain() -> None:
    """While one unit starts or another drains, nobody should send requests."""
    stop, serving, seen = asyncio.Event(), asyncio.Event(), []

    class Slow:
        name = "slow"

        async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
            await asyncio.sleep(0)
            seen.append(serving.is_set())
            ready()
            await stop.wait()
            seen.append(serving.is_set())

    running = asyncio.create_task(run_units([Slow(), Slow()], stop, 60, serving))
    await serving.wait()
    stop.set()
    await running
    assert seen == [False, False, False, False]


async def test_a_failure_stops_the_others_gently() -> None:
    """The failing unit's error comes out once the others have drained."""
    told: list[str] = []
    units = [Recorded("a", told, fails="later"), Recorded("b", told)]
    with pytest.raises(ExceptionGroup) as raised:
        await run_units(units, asyncio.Event(), 60)
    assert [str(error) for error in raised.value.exceptions] == ["a"]
    assert told == ["b starts", "a starts", "b drained"]


async def test_a_unit_that_cannot_start_stops_the_start() -> None:
    """What stands before it is never started; what runs already drains."""
    told: list[str] = []
    units = [Recorded("a", told), Recorded("b", told, fails="start"), Recorded("c", told)]
    with pytest.raises(ExceptionGroup):
        await run_units(units, asyncio.Event(), 60)
    assert told == ["c starts", "b starts", "c drained"]


async def test_the_deadline_ends_a_drain() -> None:
    """A unit that hangs is cancelled, and the next still gets to stop."""
    told: list[str] = []
    await stopped_at_once([Recorded("a", told, hangs=True), Recorded("b", told)], 0.05)
    assert told == ["b starts", "a starts", "b drained"]


async def test_a_failure_in_the_drain_comes_out() -> None:
    """Every unit is drained, then what failed is raised."""
    told: list[str] = []
    with pytest.raises(ExceptionGroup) as raised:
        await stopped_at_once([Recorded("a", told, fails="stop"), Recorded("b", told)])
    assert len(raised.value.exceptions) == 1
    assert told[-1] == "b drained"


async def test_a_task_without_end() -> None:
    """As a unit it ends on stop; what it raises before ends the others."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def forever() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def failing() -> None:
        raise ValueError("broken")

    stop = asyncio.Event()
    running = asyncio.create_task(run_units([TaskUnit("forever", forever)], stop, 5.0))
    await began.wait()
    stop.set()
    await running
    assert ended.is_set()
    with pytest.raises(ExceptionGroup, match="a component failed"):
        await run_units([TaskUnit("failing", failing)], asyncio.Event(), 5.0)

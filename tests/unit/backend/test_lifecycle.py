"""Units start in one order, drain in the other, and their failures come out."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from backend.lifecycle import TaskUnit, Units
from extauthz.core.errors import Conflict
from tests.tools.waiting import soon


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


def new_units(drain_seconds: float = 60) -> Units:
    return Units(drain_seconds, lambda: 1_000.0)


async def stopped_at_once(units: list[Recorded], drain_seconds: float = 60) -> None:
    stop, together = asyncio.Event(), new_units(drain_seconds)
    running = asyncio.create_task(together.run(units, stop))
    await soon(lambda: not together.fault(), "all serve")
    stop.set()
    await running


async def test_who_accepts_work_starts_last_and_stops_first() -> None:
    """The list is the order of the drain; the start is its opposite."""
    told: list[str] = []
    await stopped_at_once([Recorded("ingest", told), Recorded("api", told)])
    assert told == ["api starts", "ingest starts", "ingest drained", "api drained"]


async def test_it_serves_between_start_and_drain() -> None:
    """While one unit starts or another drains, nobody should send requests."""
    stop, served, seen = asyncio.Event(), asyncio.Event(), []
    units = new_units()

    class Slow:
        def __init__(self, name: str) -> None:
            self.name = name

        async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
            await asyncio.sleep(0)
            seen.append(units.fault())
            ready()
            served.set()
            await stop.wait()
            seen.append(units.fault(self.name))

    running = asyncio.create_task(units.run([Slow("a"), Slow("b")], stop))
    await served.wait()
    await soon(lambda: not units.fault(), "all serve")
    assert not units.fault("a")
    stop.set()
    await running
    assert seen == ["is starting or draining"] * 4


async def restarted(units: Units) -> None:
    await soon(lambda: not units.fault(), "all serve")
    await units.restart("a")


async def test_a_unit_is_restarted_alone() -> None:
    """It drains and starts again, and the others do not notice."""
    told: list[str] = []
    stop, units = asyncio.Event(), new_units()
    running = asyncio.create_task(
        units.run([Recorded("a", told), Recorded("b", told)], stop),
    )
    await restarted(units)
    assert told == ["b starts", "a starts", "a drained", "a starts"]
    assert not units.fault()
    assert (units.state("a").restarts, units.state("b").restarts) == (1, 0)
    stop.set()
    await running
    assert told[4:] == ["a drained", "b drained"]


async def test_it_does_not_serve_while_it_is_restarted() -> None:
    """Its fault is seen from the drain on until it is ready again; the others have none."""
    told, seen = list[str](), list[str]()
    stop, units = asyncio.Event(), new_units()

    class Seen(Recorded):
        async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
            await super().run(stop, ready)
            seen.extend((units.fault("a"), units.fault("b"), units.fault()))

    running = asyncio.create_task(units.run([Seen("a", told), Recorded("b", told)], stop))
    await restarted(units)
    stop.set()
    await running
    assert seen[:3] == ["is starting or draining", "", "is starting or draining"]


async def test_what_fails_or_hangs_in_its_drain_is_restarted_all_the_same() -> None:
    """A restart is what mends it; what it failed with is told."""
    for how in ({"fails": "stop"}, {"hangs": True}):
        told: list[str] = []
        stop, units = asyncio.Event(), new_units(0.05)
        running = asyncio.create_task(units.run([Recorded("a", told, **how)], stop))
        await restarted(units)
        assert told == ["a starts", "a starts"]
        assert units.state("a").last_error == ("a" if "fails" in how else "")
        stop.set()
        with suppress(ExceptionGroup):
            await running


async def test_a_stop_amid_a_restart_ends_it() -> None:
    """The unit is not started again, and who asked for the restart hears nothing worse."""
    told: list[str] = []
    stop, units, draining = asyncio.Event(), new_units(), asyncio.Event()
    going_on = asyncio.Event()

    class Slow(Recorded):
        async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
            await super().run(stop, ready)
            draining.set()
            await going_on.wait()

    running = asyncio.create_task(units.run([Slow("a", told)], stop))
    restarting = asyncio.create_task(restarted(units))
    await draining.wait()
    stop.set()
    await soon(lambda: not units.fault() or units._running[0].is_ending, "the drain begins")
    going_on.set()
    await running
    await restarting
    assert told == ["a starts", "a drained"]
    with pytest.raises(Conflict, match="ask again"):
        await units.restart("a")


async def test_a_failure_stops_the_others_gently() -> None:
    """The failing unit's error comes out once the others have drained."""
    told: list[str] = []
    units = [Recorded("a", told, fails="later"), Recorded("b", told)]
    with pytest.raises(ExceptionGroup) as raised:
        await new_units().run(units, asyncio.Event())
    assert [str(error) for error in raised.value.exceptions] == ["a"]
    assert told == ["b starts", "a starts", "b drained"]


async def test_a_unit_that_cannot_start_stops_the_start() -> None:
    """What stands before it is never started; what runs already drains."""
    told: list[str] = []
    units = [Recorded("a", told), Recorded("b", told, fails="start"), Recorded("c", told)]
    with pytest.raises(ExceptionGroup):
        await new_units().run(units, asyncio.Event())
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
    running = asyncio.create_task(new_units().run([TaskUnit("forever", forever)], stop))
    await began.wait()
    stop.set()
    await running
    assert ended.is_set()
    with pytest.raises(ExceptionGroup, match="a component failed"):
        await new_units().run([TaskUnit("failing", failing)], asyncio.Event())

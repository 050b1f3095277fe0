"""Which replica leads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from backend.controller.election import Election, Standing
from backend.ports.control_plane import Lease
from extauthz.core.errors import Retryable
from tests.tools.waiting import soon
from tests.unit.backend.controller.scripted_plane import ScriptedPlane


class Clock:
    """Seconds, as a test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def plane() -> ScriptedPlane:
    return ScriptedPlane()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@asynccontextmanager
async def _running(
    plane: ScriptedPlane, clock: Clock, name: str = "me", seconds: int = 2
) -> AsyncIterator[Election]:
    election = Election(plane, name, lease_seconds=seconds, changed=lambda: None, monotonic=clock)
    stop = asyncio.Event()
    task = asyncio.create_task(election.run(stop, lambda: None))
    try:
        yield election
    finally:
        stop.set()
        await task


async def test_the_first_leads(plane: ScriptedPlane, clock: Clock) -> None:
    """Where there is no lease, it is made, and given back in the end."""
    async with _running(plane, clock) as election:
        await soon(lambda: election.standing is Standing.LEADS)
        assert plane.stands
        assert plane.stands.holder == "me"
    assert plane.stands.holder == ""
    assert election.standing is Standing.STANDBY


async def test_a_held_lease_is_waited_for(plane: ScriptedPlane, clock: Clock) -> None:
    """While its holder renews it nobody else leads; when it is given back, somebody does."""
    held = plane.put_lease(Lease("other", 600, "", "", 0))
    async with _running(plane, clock) as election:
        await soon(lambda: election.leader == "other")
        assert election.standing is Standing.STANDBY
        plane.put_lease(Lease("", 600, "", "", 0, held.version))
        await soon(lambda: election.standing is Standing.LEADS)
        assert plane.stands
        assert plane.stands.transitions == 1


async def test_a_lease_that_nobody_renews_is_taken(plane: ScriptedPlane, clock: Clock) -> None:
    """Its time over without a sign of its holder, it goes to the next."""
    plane.put_lease(Lease("dead", 1, "", "", 0))
    async with _running(plane, clock) as election:
        await soon(lambda: election.standing is Standing.LEADS)


async def test_of_two_one_leads(plane: ScriptedPlane, clock: Clock) -> None:
    """Two that begin at once never both lead."""
    async with AsyncExitStack() as both:
        one = await both.enter_async_context(_running(plane, clock, "one", 600))
        two = await both.enter_async_context(_running(plane, clock, "two", 600))
        await soon(lambda: {one.standing, two.standing} == {Standing.LEADS, Standing.STANDBY})


async def test_who_cannot_renew_is_in_doubt(plane: ScriptedPlane, clock: Clock) -> None:
    """Without the API server a leader is in doubt after its time, and sure again afterwards."""
    async with _running(plane, clock) as election:
        await soon(lambda: election.standing is Standing.LEADS)
        plane.fault = Retryable("away")
        clock.now = 100.0
        await soon(lambda: election.standing is Standing.DOUBT)
        plane.fault = None
        await soon(lambda: election.standing is Standing.LEADS)


async def test_who_lost_the_lease_stands_by(plane: ScriptedPlane, clock: Clock) -> None:
    """A leader whose lease another one has taken meanwhile follows that."""
    async with _running(plane, clock) as election:
        await soon(lambda: election.standing is Standing.LEADS)
        plane.put_lease(Lease("other", 600, "", "", 1))
        await soon(lambda: election.standing is Standing.STANDBY)
        assert election.leader == "other"

"""What is followed at an API server is all that is there, after breaks too."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import pytest

from backend.controller.watching import KindWatch
from backend.ports.control_plane import Expired, Listing, Observed, Standing
from extauthz.core.errors import Retryable
from extauthz.core.governance import Key
from tests.tools.waiting import soon
from tests.unit.backend.controller.scripted_plane import ScriptedPlane

KIND = "MCPAccessGrant"


def _standing(name: str) -> Standing:
    return Standing(Key(KIND, "ns", name), f"uid-{name}", 1, None)


class Seen:
    """What is there, from what was told."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.listings = 0

    def listed(self, kind: str, items: Sequence[Standing], gone: Sequence[Key]) -> None:
        self.listings += 1
        self.there -= {key.name for key in gone}
        self.there |= {each.key.name for each in items}

    def changed(self, observed: Observed) -> None:
        assert observed.key
        if observed.standing:
            self.there.add(observed.key.name)
        else:
            self.there.discard(observed.key.name)


@pytest.fixture
def plane() -> ScriptedPlane:
    made = ScriptedPlane()
    made.listings.append(Listing([_standing("a"), _standing("b")], "10"))
    return made


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def watch(plane: ScriptedPlane, seen: Seen) -> AsyncIterator[KindWatch]:
    made = KindWatch(plane, KIND, listed=seen.listed, changed=seen.changed)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_deleted_during_a_break(plane: ScriptedPlane, seen: Seen, watch: KindWatch) -> None:
    """An object that vanished while nobody watched is told as gone by the next listing."""
    await soon(lambda: seen.there == {"a", "b"})
    plane.listings.append(Listing([_standing("b"), _standing("c")], "20"))
    plane.happens.put_nowait(Expired("too old"))
    await soon(lambda: seen.there == {"b", "c"})


async def test_what_came_by_watch_counts_as_known(
    plane: ScriptedPlane, seen: Seen, watch: KindWatch
) -> None:
    """So does what a watch told, for the listing after it."""
    await soon(lambda: seen.there == {"a", "b"})
    plane.happens.put_nowait(Observed("11", _standing("new").key, _standing("new")))
    plane.listings.append(Listing([], "20"))
    plane.happens.put_nowait(Expired("too old"))
    await soon(lambda: seen.listings == 2)
    assert seen.there == set()


async def test_a_break_is_resumed(plane: ScriptedPlane, seen: Seen, watch: KindWatch) -> None:
    """A connection that breaks is followed by another from the same version, without a listing."""
    await soon(lambda: watch.is_live)
    plane.happens.put_nowait(Retryable("away"))
    plane.happens.put_nowait(Observed("12"))
    plane.happens.put_nowait(Observed("13", _standing("a").key, None))
    await soon(lambda: seen.there == {"b"})
    assert seen.listings == 1
    assert watch.is_live


async def test_away_is_told(plane: ScriptedPlane, seen: Seen, watch: KindWatch) -> None:
    """While the API server is away nothing counts as current."""
    await soon(lambda: watch.is_live)
    plane.happens.put_nowait(Retryable("away"))
    await soon(lambda: not watch.is_live)
    assert seen.there == {"a", "b"}

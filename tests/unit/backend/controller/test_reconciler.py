"""From objects to documents, the large ones step by step."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from backend.controller import reconciler as module
from backend.controller.enforcement import Enforcement
from backend.controller.governed import Governed
from backend.controller.hub import Hub
from backend.controller.reconciler import Reconciler
from backend.metrics import ControllerMetrics
from backend.ports.control_plane import Observed, Standing
from extauthz.core.decision import ObjectRef
from extauthz.core.governance import KINDS, Key
from extauthz.core.resources import parse_object
from tests.tools.waiting import soon
from tests.unit.extauthz.core.objects import grant, server

SERVER = ObjectRef("ns", "srv")


def _standing(value: Any, generation: int = 1) -> Standing:
    meta = value["metadata"]
    key = Key(value["kind"], meta["namespace"], meta["name"])
    return Standing(key, f"uid-{meta['name']}", generation, parse_object(value))


class World:
    """A reconciler of one server with grants, of which two are many."""

    def __init__(self) -> None:
        self.reported: set[Key] = set()
        self.hub = Hub(lambda _: None)
        self.reconciler = Reconciler(
            Governed(""),
            self.hub,
            Enforcement(self.hub),
            report=self.reported.update,
            gone=lambda _: None,
            recorded=lambda _before, _after: None,
            metrics=ControllerMetrics(CollectorRegistry()),
            clock=lambda: 0.0,
        )
        grants = [_standing(grant(f"g{number}")) for number in range(10)]
        items = {"MCPServer": [_standing(server())], "MCPAccessGrant": grants}
        for kind in KINDS:
            self.reconciler.listed(kind, items.get(kind, []), [])

    def change(self, value: Any, generation: int) -> None:
        standing = _standing(value, generation)
        self.reconciler.changed(Observed("1", standing.key, standing))

    def grants(self) -> dict[str, Any]:
        """Those of the document, by name."""
        document = self.hub.document(SERVER)
        assert document is not None
        return {each["name"]: each for each in document.whole().get("grants", ())}

    def teams(self) -> set[str]:
        return {each.get("team_id", "") for each in self.grants().values()}


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    made = World()
    running = asyncio.create_task(made.reconciler.run())
    yield made
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_large_change_is_made_whole(world: World) -> None:
    """Until all grants are rendered anew the document stays as it was; then it is the new one."""
    world.change(server(teamID="t"), 2)
    seen = set()

    def is_made() -> bool:
        seen.add(frozenset(world.teams()))
        return world.teams() == {"t"}

    await soon(is_made)
    assert seen == {frozenset({""}), frozenset({"t"})}
    await soon(lambda: len(world.reported) == 11)


async def test_a_revocation_does_not_wait_for_it(world: World) -> None:
    """A grant that changes meanwhile is changed at once, and stays so afterwards."""
    world.change(server(teamID="t"), 2)
    await asyncio.sleep(0)
    world.change(grant("g1", disabled=True), 2)
    key = Key("MCPAccessGrant", "ns", "g2")
    world.reconciler.changed(Observed("1", key))
    world.change(grant("new"), 1)
    assert world.teams() == {""}
    for _ in range(2):
        assert world.grants()["g1"]["disabled"]
        assert "g2" not in world.grants()
        assert "new" in world.grants()
        await soon(lambda: world.teams() == {"t"})


async def test_the_last_change_counts(world: World) -> None:
    """A server that changes again before all is rendered is rendered as it is then; or is gone."""
    world.change(server(teamID="t"), 2)
    world.change(server(), 3)
    await soon(lambda: len(world.reported) == 11)
    assert world.teams() == {""}
    world.change(server(teamID="u"), 4)
    world.reconciler.changed(Observed("1", Key("MCPServer", "ns", "srv")))
    world.change(server("other"), 1)
    await soon(lambda: Key("MCPServer", "ns", "other") in world.reported)
    assert world.hub.document(SERVER) is None

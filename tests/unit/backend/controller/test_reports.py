"""Statuses, Events and ConfigMaps are written when they should be, whatever fails meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from backend.controller import config_maps, reports
from backend.controller.conditions import CONFLICT, TOO_LARGE
from backend.controller.config_maps import ConfigMaps
from backend.controller.enforcement import Enforcement
from backend.controller.exposure import Exposure
from backend.controller.governed import Governed
from backend.controller.hub import Hub
from backend.controller.reconciler import Reconciler
from backend.controller.reports import Reports
from backend.metrics import ControllerMetrics
from backend.ports.control_plane import POLICY_MEMBER, ConfigMap, Observed, Standing
from backend.ports.network import Pod
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid, Retryable
from extauthz.core.governance import KINDS, Key
from extauthz.core.resources import parse_object
from extauthz.core.times import format_instant
from tests.tools.waiting import soon
from tests.unit.backend.controller.scripted_plane import ScriptedPlane
from tests.unit.extauthz.core.objects import grant, server

SRV, COPY = ObjectRef("ns", "srv"), ("ns", "srv-gateway-policy")
SERVER, GRANT = Key("MCPServer", "ns", "srv"), Key("MCPAccessGrant", "ns", "g")


class World:
    """All that writes, over a scripted API server."""

    def __init__(self) -> None:
        self.plane = ScriptedPlane()
        self.hub, governed = Hub(self._told), Governed("")
        self.enforcement = Enforcement(self.hub)
        self.pods: list[Pod] = []
        self.config_maps = ConfigMaps(
            self.plane,
            self.hub,
            standing=lambda ref: self.reconciler.standings.get(Key("MCPServer", *_parts(ref))),
            told=lambda ref: self.reports.mark([Key("MCPServer", *_parts(ref))]),
            authority=lambda: b"authority",
        )
        self.reports = Reports(
            self.plane,
            governed,
            self.hub,
            self.enforcement,
            self.config_maps,
            Exposure(lambda _: self.pods, lambda _: None),
            standing=lambda key: self.reconciler.standings.get(key),  # noqa: PLW0108 - made below
            clock=time.time,
        )
        self.reconciler = Reconciler(
            governed,
            self.hub,
            self.enforcement,
            report=self._report,
            gone=lambda _: None,
            recorded=lambda _before, _after: None,
            metrics=ControllerMetrics(CollectorRegistry()),
            clock=time.time,
        )
        for kind in KINDS:
            self.reconciler.listed(kind, [], [])

    def put(self, value: Any, generation: int = 1) -> Standing:
        made = parse_object(value)
        key = Key(value["kind"], made.namespace, made.name)
        standing = Standing(key, f"uid-{made.name}", generation, made)
        self.reconciler.changed(Observed("1", key, standing))
        return standing

    def conditions(self, key: Key) -> dict[str, str]:
        """As they were last written."""
        found = [told for about, told, _ in self.plane.statuses if about == key]
        return {each.type: each.reason for each in found[-1]} if found else {}

    def _told(self, ref: ObjectRef) -> None:
        self.config_maps.mark(ref)
        key = Key("MCPServer", *_parts(ref))
        self.reports.mark([key, *self.enforcement.reached(ref)])

    def _report(self, keys: Iterable[Key]) -> None:
        self.reports.mark(keys)


def _parts(ref: ObjectRef) -> tuple[str, str]:
    return ref.namespace, ref.name


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    for module in (reports, config_maps):
        for name in ("GATHER_SECONDS", "RETRY_SECONDS"):
            monkeypatch.setattr(module, name, 0.01)
    made = World()
    tasks = [asyncio.create_task(each.run()) for each in (made.reports, made.config_maps)]
    yield made
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_refused_status_holds_nobody_up(world: World) -> None:
    """What the API server refuses is left, and the rest is written."""
    world.plane.refused[GRANT] = Invalid("status", "is bad")
    world.put(grant())
    world.put(server())
    await soon(lambda: world.conditions(SERVER).get("Accepted") == "Accepted")
    assert GRANT not in world.plane.refused


async def test_what_could_not_be_written_is_written_later(world: World) -> None:
    """While the API server is away all waits, and nothing is lost."""
    world.plane.fault = Retryable("away")
    world.put(server())
    world.put(grant())
    await asyncio.sleep(0.05)
    world.plane.fault = None
    await soon(lambda: world.conditions(GRANT).get("Enforced") == "NoSidecar")
    await soon(lambda: COPY in world.plane.config_maps)


async def test_an_end_is_told_on_time(world: World) -> None:
    """A grant that expires says so once it does, with an Event, and without any change of it."""
    world.put(server())
    world.put(grant(expiresAt=format_instant(time.time() + 1.0)))
    await soon(lambda: world.conditions(GRANT).get("Accepted") == "Accepted")
    standing = world.reconciler.standings[GRANT]
    told = next(told for about, told, _ in world.plane.statuses if about == GRANT)
    after = replace(standing, conditions=told)
    world.reconciler.changed(Observed("2", GRANT, after))
    await soon(lambda: world.conditions(GRANT).get("Accepted") == "Expired")
    await soon(lambda: [each.reason for each in world.plane.notes] == ["Expired"])


async def test_a_grant_waits_for_its_server(world: World) -> None:
    """Without its server it does not count; it does when the server comes."""
    world.put(grant())
    await soon(lambda: world.conditions(GRANT).get("Accepted") == "NoServer")
    world.put(server())
    await soon(lambda: world.conditions(GRANT).get("Accepted") == "Accepted")


async def test_a_sidecars_acknowledgement_is_told(world: World) -> None:
    """A grant is enforced when the last of its sidecars says so; a restart writes nothing."""
    world.put(server())
    world.put(grant())
    both = [world.hub.follow(SRV, name, "", lambda: None) for name in ("a", "b")]
    for follower in both:
        assert follower
        sent = follower.due()
        assert sent
        world.hub.answered(follower, sent.nonce, sent.update.revision, "")
    await soon(lambda: world.conditions(GRANT).get("Enforced") == "Acknowledged")
    standing = world.reconciler.standings[GRANT]
    told = [told for about, told, _ in world.plane.statuses if about == GRANT][-1]
    world.reconciler.changed(Observed("2", GRANT, replace(standing, conditions=told)))
    written = [key for key, _, _ in world.plane.statuses].count(GRANT)
    assert both[0]
    world.hub.leave(both[0])
    policies = world.plane.statuses
    await soon(lambda: policies[-1][2] is not None and policies[-1][2].connected == 1)
    assert [key for key, _, _ in world.plane.statuses].count(GRANT) == written


async def test_another_ones_copy_stays(world: World) -> None:
    """A ConfigMap of that name that is not ours is left as it is, and told."""
    theirs = ConfigMap("", is_ours=False, data={POLICY_MEMBER: "theirs"})
    world.plane.config_maps[COPY] = theirs
    world.put(server())
    await soon(lambda: CONFLICT in world.conditions(SERVER))
    assert world.plane.config_maps[COPY] == theirs


async def test_what_is_too_large_has_no_copy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that would be old goes; the condition goes when there is room again."""
    world.put(server())
    await soon(lambda: COPY in world.plane.config_maps)
    monkeypatch.setattr(config_maps, "MOST_BYTES", 300)
    world.put(grant(), 1)
    await soon(lambda: TOO_LARGE in world.conditions(SERVER))
    assert COPY not in world.plane.config_maps
    world.reconciler.changed(Observed("3", GRANT))
    monkeypatch.setattr(config_maps, "MOST_BYTES", 10_000)
    world.put(server(teamID="t"), 2)
    await soon(lambda: COPY in world.plane.config_maps)
    await soon(lambda: TOO_LARGE not in world.conditions(SERVER))

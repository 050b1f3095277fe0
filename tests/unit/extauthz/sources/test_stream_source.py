"""The stream source against a controller that behaves."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from extauthz.core.decision import PolicyFacts
from extauthz.sources.policies import Reload
from protos.gen.policy_stream_pb2 import PolicyUpdate
from tests.tools.ports import free_port
from tests.tools.scripted_controller import (
    Publisher,
    ScriptedController,
    Session,
    confirmation,
    full,
    increment,
    revision_of,
)
from tests.tools.tcp_proxy import TcpProxy
from tests.tools.waiting import soon
from tests.unit.extauthz.sources.stream_world import (
    ALLOWED,
    DENIED,
    World,
    document,
    grant,
)

OPEN, CLOSED = document(grant("ops")), document()


async def test_follows(tmp_path: Path) -> None:
    """A whole document, then each change, run at once; each is acknowledged with its revision."""
    publisher = Publisher(OPEN)
    async with ScriptedController(publisher) as controller:
        async with World(controller.port, tmp_path).running() as world:
            await world.decides(ALLOWED)
            await publisher.publish(CLOSED)
            await world.decides(DENIED)
            await publisher.publish(document(grant("ops"), policy={"mode": "observe"}))
            await world.decides(ALLOWED)
            await soon(lambda: len(publisher.answers) == 3)
            assert world.policies.current.facts.mode == "observe"
        [session] = controller.sessions
        asked = session.subscription
        assert (asked.namespace, asked.name, asked.gateway) == ("home", "demo", "gw-1")
        assert asked.revision == ""
    assert [answer.error for answer in publisher.answers] == ["", "", ""]
    assert publisher.answers[1].revision == revision_of(CLOSED)


async def test_before_the_first_update(tmp_path: Path) -> None:
    """Without a policy every call is denied, and the fault says that nobody answers."""
    async with World(free_port(), tmp_path).running() as world:
        await world.faulty("cannot be reached (UNAVAILABLE:")
        assert world.decide() == "deny policy_unavailable"
        assert "is it up, and is POLICY_STREAM right?" in world.policies.current.fault
        assert world.policies.current.facts == PolicyFacts(server="demo", namespace="home")


async def test_confirmation(tmp_path: Path) -> None:
    """An empty update makes the running policy as fresh as it is, and swaps nothing."""
    stale = document(grant("ops"), policy={"max_staleness": "10s"})
    now = 1_800_000_000.0
    confirm = asyncio.Event()

    async def script(session: Session) -> None:
        await session.tell(*full(stale, "1"))
        await confirm.wait()
        await session.tell(confirmation(stale, "2"))
        await session.hold()

    async with (
        ScriptedController(script) as controller,
        World(controller.port, tmp_path, clock=lambda: now).running() as world,
    ):
        await world.decides(ALLOWED)
        before = world.policies.current.policy
        now += 10.5
        assert world.decide() == "deny policy_stale"
        confirm.set()
        await world.decides(ALLOWED)
        assert world.policies.current.policy is before
        assert world.policies.reloads[Reload.SUCCESS] == 1


async def test_resumes(tmp_path: Path) -> None:
    """After a break it says what it holds, and gets what it lacks, once."""
    publisher = Publisher(OPEN)
    proxy = TcpProxy()
    try:
        async with ScriptedController(publisher) as controller:
            proxy.target = controller.port
            async with World(proxy.port, tmp_path).running() as world:
                await world.decides(ALLOWED)
                await soon(lambda: publisher.answers)
                proxy.target = 0
                proxy.cut()
                await soon(lambda: not world.source.connected)
                await publisher.publish(CLOSED)
                proxy.target = controller.port
                await world.decides(DENIED)
                await soon(lambda: len(publisher.answers) == 2)
                assert controller.sessions[-1].subscription.revision == revision_of(OPEN)
                await world.mended()
    finally:
        proxy.close()
    assert [answer.error for answer in publisher.answers] == ["", ""]


async def test_another_port_behind_the_name(tmp_path: Path) -> None:
    """A controller that starts again elsewhere is found again."""
    publisher = Publisher(OPEN)
    proxy = TcpProxy()
    try:
        async with World(proxy.port, tmp_path).running() as world:
            async with ScriptedController(publisher) as first:
                proxy.target = first.port
                await world.decides(ALLOWED)
            proxy.target = 0
            await soon(lambda: not world.source.connected)
            await publisher.publish(CLOSED)
            async with ScriptedController(publisher) as second:
                proxy.target = second.port
                await world.decides(DENIED)
    finally:
        proxy.close()


@pytest.mark.parametrize("how", ["ok", "unavailable", "cancelled"])
async def test_another_address_leads(how: str, tmp_path: Path) -> None:
    """One that does not lead sends sidecars to the next address that the name has."""

    async def follow_another(session: Session) -> None:
        if how == "unavailable":
            await session.refuse(grpc.StatusCode.UNAVAILABLE, "not the leader")
        if how == "cancelled":
            await session.refuse(grpc.StatusCode.CANCELLED, "not the leader")

    publisher = Publisher(OPEN)
    async with (
        ScriptedController(follow_another) as standby,
        ScriptedController(publisher, host="::1", port=standby.port) as leader,
        World(standby.port, tmp_path, host="localhost").running() as world,
    ):
        await world.decides(ALLOWED)
        standby.script, leader.script = publisher, follow_another
        assert world.source.describe()["controller"] == f"scripted-{leader.port}"


async def test_half_open(tmp_path: Path) -> None:
    """A connection whose other end fell silent is left, and another one made."""
    publisher = Publisher(OPEN)
    proxy = TcpProxy()
    try:
        async with ScriptedController(publisher) as controller:
            proxy.target = controller.port
            world = World(
                proxy.port, tmp_path, keepalive_seconds=0.2, keepalive_timeout_seconds=0.2
            )
            async with world.running():
                await world.decides(ALLOWED)
                proxy.freeze()
                await soon(lambda: not world.source.connected)
                proxy.thaw()
                await soon(lambda: world.source.connected)
    finally:
        proxy.close()


@pytest.mark.parametrize(
    ("bound", "script_says", "fault"),
    [
        ("first_answer_seconds", 0, "said nothing for 0.2 s"),
        ("silence_seconds", 1, "said nothing for 0.2 s"),
        ("update_seconds", 2, "did not complete an update within 0.2 s"),
    ],
)
async def test_silent_controller(bound: str, script_says: int, fault: str, tmp_path: Path) -> None:
    """One that says nothing, nothing more, or never finishes, is left for another stream."""

    bounds: dict[str, Any] = {bound: 0.2}

    async def script(session: Session) -> None:
        if script_says == 1:
            await session.tell(*full(OPEN, "1"))
        while script_says == 2:  # a slow trickle
            await session.send(PolicyUpdate(nonce="1", revision=revision_of(OPEN)))
            await asyncio.sleep(0.05)
        await session.hold()

    async with (
        ScriptedController(script) as controller,
        World(controller.port, tmp_path, **bounds).running() as world,
    ):
        await soon(lambda: fault in world.source.describe()["last_error"], fault)
        await soon(lambda: len(controller.sessions) > 1)


async def test_ends_in_the_middle(tmp_path: Path) -> None:
    """What was begun on a stream that broke is never completed by the next one."""
    first, second = full(OPEN, "1", parts=2)

    async def script(session: Session) -> None:
        await session.send(first if len(controller.sessions) == 1 else second)
        if len(controller.sessions) == 1:
            return
        answer = await session.answer()
        assert "head" in answer.error
        await session.tell(*full(OPEN, "2"))
        await session.hold()

    async with (
        ScriptedController(script) as controller,
        World(controller.port, tmp_path).running() as world,
    ):
        await world.decides(ALLOWED)
        assert len(controller.sessions) == 2


async def test_stops_at_once(tmp_path: Path) -> None:
    """It ends while it waits for the controller, and while it waits to try again."""
    async with (
        ScriptedController(Session.hold) as controller,
        World(controller.port, tmp_path).running(),
    ):
        await soon(lambda: controller.sessions)
    async with World(controller.port, tmp_path, retry_max_seconds=60).running() as world:
        await world.faulty("cannot be reached")


async def test_told(tmp_path: Path) -> None:
    """Status and metrics tell of connection, updates and age."""
    publisher = Publisher(OPEN)
    async with (
        ScriptedController(publisher) as controller,
        World(controller.port, tmp_path).running() as world,
    ):
        await world.decides(ALLOWED)
        await publisher.publish(CLOSED)
        await soon(lambda: len(publisher.answers) == 2)
        told = world.source.describe()
        samples = {
            (each.name, *each.labels.values()): each.value
            for family in world.source.collector.collect()
            for each in family.samples
        }
    assert told["connected"] is True
    assert told["address"] == f"127.0.0.1:{controller.port}"
    assert told["revision"] == revision_of(CLOSED)
    assert told["updates"]["increment"] == {"success": 1, "failure": 0}
    assert (told["attempts"], told["last_error"]) == (1, "")
    assert samples["mcp_gateway_policy_stream_connected",] == 1
    assert samples["mcp_gateway_policy_stream_updates_total", "full", "success"] == 1
    assert samples["mcp_gateway_policy_stream_apply_seconds_count", "increment"] == 1
    assert samples["mcp_gateway_policy_age_seconds",] >= 0


def test_increments_of_the_tests() -> None:
    """What the scripted controller sends as an increment leaves out what stays."""
    update = increment(OPEN, CLOSED, "1")
    assert (update.head, len(update.grants), len(update.removed_grants)) == (b"", 0, 1)

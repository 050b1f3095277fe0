"""The last known good policy on disk: restarts with and without a controller."""

import asyncio
import sqlite3
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from protos.gen.policy_stream_pb2 import PolicyUpdate
from tests.tools.ports import free_port
from tests.tools.scripted_controller import (
    Publisher,
    ScriptedController,
    Session,
    full,
    increment,
    revision_of,
)
from tests.tools.waiting import soon
from tests.unit.extauthz.sources.stream_world import ALLOWED, DENIED, World, document, grant

SESSION = {"name": "s", "namespace": "home", "agent_id": "ops"}
OPEN = document(grant("ops"), grant("away/x", namespace="away", agent_id="far"), sessions=[SESSION])
NAME = "last-policy.db"


async def follow(folder: Path, *documents: dict[str, Any], **options: Any) -> None:
    """Let a sidecar get these from a controller, one after the other, and end."""
    publisher = Publisher(documents[0])
    async with (
        ScriptedController(publisher) as controller,
        World(controller.port, folder, **options).running(),
    ):
        for each in documents:
            await publisher.publish(each)
            await soon(partial(_has_told, publisher, each))
    assert not [answer.error for answer in publisher.answers if answer.error]


def _has_told(publisher: Publisher, document: dict[str, Any]) -> bool:
    return bool(publisher.answers) and publisher.answers[-1].revision == revision_of(document)


async def test_restart_without_a_controller(tmp_path: Path) -> None:
    """It goes on with all that it had been told, each change included."""
    without = document(*OPEN["grants"][1:], policy={"policy_version": "v7"})
    again = document(grant("ops"), grant("new", agent_id="new"), policy={"policy_version": "v7"})
    await follow(tmp_path, OPEN, without, again)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    async with World(free_port(), tmp_path).running() as world:
        await world.decides(ALLOWED)
        assert world.decide("new") == ALLOWED
        assert world.decide("far") == DENIED
        facts = world.policies.current.facts
        assert (facts.revision, facts.version) == (revision_of(again), "v7")
        await world.faulty("cannot be reached")


async def test_restart_with_a_controller(tmp_path: Path) -> None:
    """What was kept decides nothing before the controller has said what changed since."""
    await follow(tmp_path, OPEN)
    asked = asyncio.Event()

    async def script(session: Session) -> None:
        assert session.subscription.revision == revision_of(OPEN)
        await asked.wait()
        await session.tell(increment(OPEN, document(), "1"))
        await session.hold()

    async with (
        ScriptedController(script) as controller,
        World(controller.port, tmp_path).running() as world,
    ):
        await soon(lambda: controller.sessions)
        assert world.decide() == "deny policy_unavailable"
        asked.set()
        await world.decides(DENIED)


async def test_restart_with_a_controller_that_cannot_confirm(tmp_path: Path) -> None:
    """What was kept goes on, as old as it is, where the controller says only that it is there."""
    now = 1_800_000_000.0
    await follow(tmp_path, OPEN, clock=lambda: now)

    async def script(session: Session) -> None:
        await session.send(PolicyUpdate())
        await session.hold()

    async with (
        ScriptedController(script) as controller,
        World(controller.port, tmp_path, clock=lambda: now + 60).running() as world,
    ):
        await world.decides(ALLOWED)
        assert (world.source.connected, world.faults) == (True, "")
        assert world.policies.current.confirmed_at == now


async def test_restart_with_a_broken_controller(tmp_path: Path) -> None:
    """What was kept goes on where the controller's document is refused."""
    await follow(tmp_path, OPEN)
    bad = document(grant("ops", max_trust="huge"))

    async def script(session: Session) -> None:
        await session.tell(*full(bad, "1"))
        await session.hold()

    async with (
        ScriptedController(script) as controller,
        World(controller.port, tmp_path).running() as world,
    ):
        await world.decides(ALLOWED)
        await world.faulty("unknown value `huge`")


async def test_age_counts_on(tmp_path: Path) -> None:
    """`maxStaleness` counts from the last confirmation, over the restart."""
    now = 1_800_000_000.0
    dated = document(grant("ops"), policy={"max_staleness": "60s"})
    await follow(tmp_path, dated, clock=lambda: now)
    async with World(free_port(), tmp_path, clock=lambda: now + 59).running() as world:
        await world.decides(ALLOWED)
    async with World(free_port(), tmp_path, clock=lambda: now + 61).running() as world:
        await world.decides("deny policy_stale")
    async with World(free_port(), tmp_path, clock=lambda: now - 3600).running() as world:
        await world.decides(ALLOWED)
        assert world.policies.current.confirmed_at == now - 3600


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def scribble(file: Path) -> None:
    file.write_bytes(b"no database" * 1000)


def edit(statement: str) -> Callable[[Path], None]:
    def work(file: Path) -> None:
        with sqlite3.connect(file) as connection:
            connection.execute(statement)
        connection.close()

    return work


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut off": (cut, "is damaged (database disk image is malformed), and set aside"),
    "overwritten": (scribble, "is damaged (file is not a database), and set aside"),
    "another layout": (edit("PRAGMA user_version = 9"), "is damaged (it has layout `9`, not `1`)"),
    "a row is gone": (edit("DELETE FROM objects WHERE name = 'ops'"), "$: has the digest `sha256:"),
    "a row is another": (
        edit("""UPDATE objects SET body = '{"name":"ops","namespace":"home"}'"""),
        "$.grants[1].name: second grant `home/ops`",
    ),
    "a row is no JSON": (edit("UPDATE objects SET body = x'00'"), "$: "),
    "the head is no JSON": (edit("UPDATE document SET head = 'x'"), "head: is no JSON object"),
    "another revision": (edit("UPDATE document SET revision = 'x'"), "$: has the digest `sha256:"),
}


@pytest.mark.parametrize("name", DAMAGES)
async def test_damaged(name: str, tmp_path: Path) -> None:
    """A damaged file decides nothing, is told with the mend, and is replaced by the next policy."""
    damage, fault = DAMAGES[name]
    await follow(tmp_path, OPEN)
    file = tmp_path / NAME
    damage(file)
    async with World(free_port(), tmp_path).running() as world:
        await world.faulty("cannot be reached")
        assert world.decide() == "deny policy_unavailable"
        assert f"{file}: {fault}" in world.faults
        assert "; wait for the controller: its policy takes the place" in world.faults
    await follow(tmp_path, OPEN)
    async with World(free_port(), tmp_path).running() as world:
        await world.decides(ALLOWED)
    if "set aside" in fault:
        assert file.with_name(f"{NAME}.damaged").exists()


async def test_foreign(tmp_path: Path) -> None:
    """Another server's file is refused, even where it is whole."""
    other = document(grant("ops"), server={"name": "other", "namespace": "home"})
    await follow(tmp_path, other, server="other")
    async with World(free_port(), tmp_path).running() as world:
        await world.faulty("$.server.name: `other` is not `demo`, which is governed here")
        assert world.decide() == "deny policy_unavailable"


async def test_no_disk(tmp_path: Path) -> None:
    """A disk that cannot be used is told, and stops no update."""
    publisher = Publisher(OPEN)
    async with ScriptedController(publisher) as controller:
        folder = tmp_path / "file"
        folder.touch()
        async with World(controller.port, folder).running() as world:
            await world.decides(ALLOWED)
            await publisher.publish(document())
            await world.decides(DENIED)
            assert f"{folder / NAME}: cannot be used (" in world.faults
            assert "make SPOOL_DIR a folder on a writable disk with room" in world.faults


async def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    """What cannot be kept runs all the same; the next whole document mends the file."""
    publisher = Publisher(OPEN)
    async with ScriptedController(publisher) as controller:
        async with World(controller.port, tmp_path).running() as world:
            await world.decides(ALLOWED)
            await soon(lambda: publisher.answers)
            edit("DELETE FROM document")(tmp_path / NAME)
            await publisher.publish(document())
            await world.decides(DENIED)
            await world.faulty("the policy on disk is an older one")
        async with World(controller.port, tmp_path).running() as world:
            await world.decides(DENIED)
            assert world.faults == ""

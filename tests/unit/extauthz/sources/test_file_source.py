"""The file source: one policy document, and what happens when it changes."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from extauthz.core.decision import PolicyFacts
from extauthz.core.request import Call, Identity
from extauthz.sources.file import FileSource
from extauthz.sources.policies import Policies, Reload


def document(decision: str, **members: Any) -> str:
    return json.dumps(
        {
            "schema_version": "v1",
            "server": {"name": "demo", "namespace": "home"},
            "policy": {"default_decision": decision},
            **members,
        }
    )


class World:
    """A document, the source that reads it, and a clock."""

    def __init__(self, path: Path, expected: PolicyFacts) -> None:
        self.path, self.now = path, 1000.0
        self.policies = Policies(expected)
        self.source = FileSource(
            path,
            self.policies,
            expected=expected,
            clock=lambda: self.now,
            settle_seconds=0.01,
        )

    async def look(self) -> str:
        self.now += 1
        await self.source.look()
        call = Call(method="tools/call", tool="echo", rpc_id=1)
        decision = self.policies.current.decide_call(call, Identity("ann"), None, self.now)
        return f"{decision.effect.value} {decision.reason.value}"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "policy.json", PolicyFacts(server="demo", namespace="home"))


async def test_a_pipe_is_no_document(world: World) -> None:
    """A pipe is refused at once instead of being waited for."""
    os.mkfifo(world.path)
    assert await world.look() == "deny policy_unavailable"
    assert "is no regular file" in world.policies.current.fault


async def test_missing(world: World) -> None:
    """Without a document everything is denied, with the server's name in the event."""
    assert await world.look() == "deny policy_unavailable"
    assert world.policies.current.facts.server == "demo"
    assert world.policies.current.fault == (
        f"{world.path}: cannot be read (No such file or directory); put the file there"
    )
    world.path.write_text(document("allow"))
    assert await world.look() == "allow no_matching_grant"
    assert (world.policies.faults, world.policies.current.fault) == ((), "")


async def test_swaps(world: World) -> None:
    """A rewrite, a rename over it and a link swap each change the next decision."""
    world.path.write_text(document("allow"))
    assert await world.look() == "allow no_matching_grant"
    world.path.write_text(document("deny"))
    assert await world.look() == "deny no_matching_grant"
    new = world.path.with_name("new")
    new.write_text(document("allow"))
    new.rename(world.path)
    assert await world.look() == "allow no_matching_grant"
    (world.path.parent / "..v2").mkdir()
    (world.path.parent / "..v2/policy.json").write_text(document("deny"))
    new.symlink_to("..v2/policy.json")
    new.rename(world.path)
    assert await world.look() == "deny no_matching_grant"
    assert world.policies.reloads[Reload.SUCCESS] == 4


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "policy.json: $: "),
        ("[]", "policy.json: $: must be a JSON object"),
        (document("alow"), "policy.json: $.policy.default_decision: unknown value `alow`; use"),
        (
            document("deny", server={"name": "other"}),
            "policy.json: $.server.name: `other` is not `demo`, which is governed here; mount",
        ),
        (
            document("deny", server={"name": "demo", "namespace": "x"}),
            "policy.json: $.server.namespace: `x` is not `home`",
        ),
    ],
)
async def test_broken(world: World, text: str, fault: str) -> None:
    """A document that does not validate never replaces the running one."""
    world.path.write_text(document("allow"))
    await world.look()
    world.path.write_text(text)
    assert await world.look() == "allow no_matching_grant"
    assert await world.look() == "allow no_matching_grant"
    assert fault in world.policies.current.fault
    assert world.policies.current.confirmed_at == 1001
    assert world.policies.reloads[Reload.FAILURE] == 1
    world.path.write_text(document("allow"))
    assert await world.look() == "allow no_matching_grant"
    assert world.policies.faults == ()


async def test_deleted(world: World) -> None:
    """A document that goes away leaves the last good one running, as a fault."""
    world.path.write_text(document("allow"))
    await world.look()
    world.path.unlink()
    assert await world.look() == "allow no_matching_grant"
    assert "cannot be read" in world.policies.current.fault
    world.path.write_text(document("allow"))
    await world.look()
    assert world.policies.faults == ()


async def test_confirmation(world: World) -> None:
    """A document is as old as it says; one that does not say is as old as the last look."""
    world.path.write_text(document("allow"))
    await world.look()
    before = world.policies.current
    await world.look()
    assert world.policies.current.confirmed_at == 1002
    assert world.policies.current.policy is before.policy
    dated = document(
        "allow",
        policy={"default_decision": "allow", "max_staleness": "10s"},
        generated_at="1970-01-01T00:16:40Z",
    )
    world.path.write_text(dated)
    assert await world.look() == "allow no_matching_grant"
    world.now = 1010
    assert await world.look() == "deny policy_stale"

"""Large documents, compiled in a process of their own."""

import asyncio
import hashlib
import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from extauthz.core.compile import compile_document
from extauthz.core.decision import PolicyFacts
from extauthz.core.errors import Invalid
from extauthz.core.policy import Policy
from extauthz.core.request import Call, Identity
from extauthz.sources.aside import (
    LARGE_BYTES,
    compile_aside,
    compile_here,
    contents,
    let_go,
)
from extauthz.sources.file import FileSource
from extauthz.sources.policies import Policies, Reload


def document(grants: int, trust: str = "high") -> dict[str, Any]:
    return {
        "schema_version": "v1",
        "server": {"name": "demo", "namespace": "home"},
        "auth": {"trusted_peers": ["10.0.0.0/8"]},
        "tools": [{"name": "echo", "side_effect": "read"}],
        "grants": [
            {
                "name": f"grant-{number}",
                "agent_id": f"agent-{number % 700}",
                "max_trust": trust,
                "allowed_side_effects": ["read"],
                "tool_rules": [{"name": "echo"}, {"name": "erase", "decision": "deny"}],
            }
            for number in range(grants)
        ],
        "sessions": [
            {"name": f"session-{number}", "agent_id": "agent-1"} for number in range(grants)
        ],
    }


def described(policy: Policy) -> list[Any]:
    """All that decides, in a form that compares."""
    grants = {subject: found.grants for subject, found in policy.grants.items()}
    return [policy.facts, policy.tools, policy.trusted_peers, grants, policy.sessions]


async def test_same_as_here(tmp_path: Path) -> None:
    """What the other process compiled equals what this one would have."""
    raw = json.dumps(document(1000)).encode()
    path = tmp_path / "policy.json"
    path.write_bytes(raw)
    with path.open("rb") as file:
        compiled = await compile_aside(file)
    assert compiled.digest == hashlib.sha256(raw).digest()
    assert isinstance(compiled.outcome, Policy)
    assert described(compiled.outcome) == described(compile_document(document(1000)))


async def test_same_fault(tmp_path: Path) -> None:
    """A document that does not validate is refused with the same path and mend."""
    raw = json.dumps(document(1000) | {"tools": [{}]}).encode()
    path = tmp_path / "policy.json"
    path.write_bytes(raw)
    here = compile_here(BytesIO(raw)).outcome
    with path.open("rb") as file:
        aside = (await compile_aside(file)).outcome
    assert isinstance(here, Invalid)
    assert isinstance(aside, Invalid)
    assert str(aside) == str(here) == "$.tools[0].name: is required; set `name`"


async def test_dead_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends early is a fault with a mend, and the next look tries again."""
    path, policies = tmp_path / "policy.json", Policies(PolicyFacts())
    source = FileSource(
        path, policies, expected=PolicyFacts(), clock=lambda: 1000.0, settle_seconds=0.01
    )
    path.write_text(json.dumps(document(1000)))
    with monkeypatch.context() as patched:
        patched.setattr("sys.executable", "/bin/false")
        await source.look()
    assert policies.current.fault == (
        f"{path}: $: could not be compiled: the compiler ended with `1`; "
        "give the decision point more memory"
    )
    await source.look()
    assert (policies.is_ready, policies.current.fault) == (True, "")


async def test_changes_faster_than_it_compiles(tmp_path: Path) -> None:
    """A file that is replaced while it compiles runs all the same; the next look sees the other."""
    path, policies = tmp_path / "policy.json", Policies(PolicyFacts())
    source = FileSource(
        path, policies, expected=PolicyFacts(), clock=lambda: 1000.0, settle_seconds=0.01
    )
    path.write_text(json.dumps(document(1000)))
    looking = asyncio.create_task(source.look())
    while not looking.done():
        new = tmp_path / "new"
        new.write_text(json.dumps(document(1000)))
        new.rename(path)
        await asyncio.sleep(0.05)
    assert policies.reloads[Reload.SUCCESS] == 1


async def test_a_call_under_way_keeps_its_policy() -> None:
    """What is let go stays whole for who still decides by it."""
    policy = compile_document(document(1000))
    grants, sessions = dict(policy.grants), dict(policy.sessions)
    await let_go(contents(policy.grants, policy.sessions))
    assert (policy.grants, policy.sessions) == (grants, sessions)


async def test_file_source_swaps_large_documents(tmp_path: Path) -> None:
    """A large document runs, its successor follows, and the same one again changes nothing."""
    path, policies = tmp_path / "policy.json", Policies(PolicyFacts())
    source = FileSource(
        path, policies, expected=PolicyFacts(), clock=lambda: 1000.0, settle_seconds=0.01
    )
    call = Call(method="tools/call", tool="echo", rpc_id=1)

    async def decided(trust: str) -> str:
        path.write_text(json.dumps(document(1000, trust)))
        assert path.stat().st_size > LARGE_BYTES
        await source.look()
        identity = Identity(agent_id="agent-3")
        decision = policies.current.decide_call(call, identity, "10.1.1.1", 1000.0)
        return f"{decision.effect.value} {decision.trust.admin}"

    assert await decided("high") == "allow high"
    assert await decided("medium") == "allow medium"
    assert await decided("medium") == "allow medium"
    assert policies.reloads[Reload.SUCCESS] == 2


async def test_a_compiler_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source can look again: no later change goes unseen."""
    monkeypatch.setattr("extauthz.sources.aside.COMPILE_SECONDS", 0.2)
    reader, writer = os.pipe()  # a disk that never answers
    with open(reader, "rb") as file, open(writer, "wb"):
        compiled = await compile_aside(file)
    assert compiled.digest == b""
    assert "was not compiled within `0.2` seconds" in str(compiled.outcome)

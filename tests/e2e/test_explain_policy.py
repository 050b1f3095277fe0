"""A denied call is explained by the policy that denied it, after that policy was changed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tools.sentinel_up import Up
from tests.tools.waiting import eventually

AGENT = "explained-agent"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("explain") / "state")
    try:
        yield running
    finally:
        assert running.stop() == 0, running.log.read_text()


def explained(up: Up, *words: str) -> dict[str, Any]:
    answered = up.command("explain", *words, "-o", "json")
    assert answered.returncode == 0, answered.stderr
    told: dict[str, Any] = json.loads(answered.stdout)
    return told


def write(file: Path, *rules: str) -> None:
    spec = {
        "serverRef": {"name": "reference-server"},
        "subject": {"agentID": AGENT},
        "toolRules": [{"name": rule, "decision": "allow"} for rule in rules],
    }
    metadata = {"name": AGENT, "namespace": "mcp-servers"}
    head = {"apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPAccessGrant"}
    file.write_text(yaml.safe_dump(head | {"metadata": metadata, "spec": spec}))


def test_a_call_is_explained_by_the_policy_of_its_time(up: Up) -> None:
    """Denied, the grant edited as proposed, allowed: the old call is told by the old grant."""
    file = up.state / "access" / "explained.yaml"
    write(file, "list_invoices")
    eventually(lambda: up.reason("echo", AGENT) == "tool_not_granted", "the grant counts")
    eventually(lambda: bool(mine(up)), "the denied call is stored")
    denied = mine(up)[-1]

    old = explained(up, denied["request_id"])
    assert old["decision"]["reason"] == "tool_not_granted"
    assert old["failed"]["row"] == "8"
    assert old["policy"]["match"] == "exact"
    assert old["policy"]["revision"] == denied["policy_revision"]
    assert old["now"]["effect"] == "deny"
    (change,) = old["smallest_change"]["changes"]
    assert change["patch"]["metadata"]["name"] == AGENT

    apply(file, change["patch"])
    eventually(lambda: up.reason("echo", AGENT) == "allowed", "the change counts")

    def by_its_policy() -> dict[str, Any] | None:
        """Once the record of the change is stored; until then the nearest policy explains."""
        found = explained(up, denied["decision_id"])
        return found if found["policy"]["match"] == "exact" else None

    old = eventually(by_its_policy, "the change is stored")
    assert old["decision"]["reason"] == "tool_not_granted"
    assert old["policy"]["revision"] == denied["policy_revision"]
    assert old["now"]["effect"] == "allow"
    assert "smallest_change" not in old
    new = explained(up, "--tool", "echo", "--agent", AGENT)
    assert new["decision"]["effect"] == "allow"
    assert new["policy"]["revision"] == old["now"]["revision"] != denied["policy_revision"]

    shown = up.command("explain", denied["request_id"])
    assert "deny: tool_not_granted" in shown.stdout
    assert f"policy {denied['policy_revision']}: the policy that decided" in shown.stdout
    changes = [event["payload"] for event in up.events("--type", "governance.change")]
    told = [(c["action"], c["actor"]) for c in changes if c["name"] == AGENT]
    assert sorted(told) == [("changed", "file"), ("created", "file")]


def mine(up: Up) -> list[dict[str, Any]]:
    """The agent's denied calls of the grant's own reason, oldest first."""
    calls = [c for c in up.calls("echo") if c["agent_id"] == AGENT]
    return [c for c in calls if c["reason"] == "tool_not_granted"]


def apply(file: Path, patch: dict[str, Any]) -> None:
    """The merge patch, by hand, as an admin would."""
    written = yaml.safe_load(file.read_text())
    written["spec"] |= patch["spec"]
    file.write_text(yaml.safe_dump(written))

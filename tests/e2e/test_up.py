"""`sentinel up` as a person runs it: the real stack, one run for all tests of this module."""

import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.cli.guard import members
from backend.cli.ports import Ports
from tests.tools.sentinel_up import SENTINEL, Up, free_base, sentinel
from tests.tools.waiting import SECONDS, eventually


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with tempfile.TemporaryDirectory(prefix="up-") as folder:
        running = Up(Path(folder) / "state")
        try:
            yield running
        finally:
            assert running.stop() == 0, running.log.read_text()
            assert running.is_gone()


def test_status_tells_where_everything_is(up: Up) -> None:
    """Endpoints, folders, keys, and five healthy processes."""
    status = up.status()
    assert status["state"] == "healthy"
    assert status["endpoints"] == up.endpoints
    assert set(status["endpoints"]) == {"mcp", "ingest", "api", "ui"}
    assert Path(status["access_dir"], "grants.yaml").is_file()
    assert Path(status["admin_key_file"]).read_text().strip()
    names = {component["name"] for component in status["components"]}
    assert names == {"upstream", "backend", "decision-point", "envoy", "ui"}
    assert all(component["pid"] for component in status["components"])
    assert up.command("status").returncode == 0


def test_keys_stand_on_no_command_line(up: Up) -> None:
    """`ps` shows no secret."""
    secrets = [(up.state / name).read_text().strip() for name in ("admin.key", "ingest.key")]
    lines = [" ".join(process.cmdline()) for process in members(up.token)]
    assert lines
    assert not [line for line in lines if any(secret in line for secret in secrets)]


def test_an_allowed_and_a_denied_call_are_seen_in_events(up: Up) -> None:
    """The three commands that `up` prints do what they say."""
    allowed = up.command("call", "list_invoices", "--agent", "ops-agent")
    assert allowed.returncode == 0
    assert "INV-1001" in allowed.stdout
    denied = up.command("call", "refund_invoice", "--agent", "ops-agent", "--json")
    assert denied.returncode == 4
    assert json.loads(denied.stdout)["error"]["data"]["reason"] == "tool_not_granted"

    def both() -> bool:
        return bool(up.calls("list_invoices") and up.calls("refund_invoice"))

    eventually(both, "both calls in events")
    (event,) = up.calls("refund_invoice")
    assert (event["decision"], event["agent_id"]) == ("deny", "ops-agent")
    shown = up.command("events").stdout
    assert "refund_invoice" in shown
    assert "tool_not_granted" in shown


def test_following_prints_new_events_as_they_come(up: Up) -> None:
    """`events --follow --json`: one object a line, until Ctrl-C."""
    words = ["events", "--follow", "--json", "--limit", "1", "--state", str(up.state)]
    following = subprocess.Popen([*SENTINEL, *words], stdout=subprocess.PIPE, text=True)
    try:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())
        assert up.reason("followed-tool", "ops-agent") == "tool_not_granted"
        tools = (json.loads(line)["payload"].get("tool_name") for line in following.stdout)
        assert "followed-tool" in tools
    finally:
        following.send_signal(signal.SIGINT)
        assert following.wait(SECONDS) == 0


def test_an_edit_changes_the_next_decision(up: Up) -> None:
    """Saving a YAML file is enough."""
    file = up.state / "access" / "edited.yaml"
    assert up.reason("echo", "edited-agent") == "no_matching_grant"
    grant = (up.state / "access" / "grants.yaml").read_text().split("\n---\n")[0]
    named = grant.replace("ops-agent-reads", "edited").replace("ops-agent", "edited-agent")
    file.write_text(named)
    eventually(lambda: up.reason("echo", "edited-agent") == "allowed", "the edit counts")


def test_a_broken_file_keeps_the_last_good_policy(up: Up) -> None:
    """The fault shows in status with its line and mend; decisions stay."""
    file = up.state / "access" / "broken.yaml"
    file.write_text("kind: MCPAccessGrant\nspec: {subject: {}}\n")
    faults = eventually(lambda: up.status()["faults"], "the fault in status")
    assert faults[0]["file"] == "broken.yaml"
    assert faults[0]["mend"]
    status = up.command("status")
    assert status.returncode == 1
    assert f"{up.state}/access/broken.yaml:1" in status.stdout
    assert up.reason("echo", "ops-agent") == "allowed"
    file.unlink()
    eventually(lambda: up.status()["state"] == "healthy", "healthy again")


def test_a_second_up_names_the_first(up: Up) -> None:
    """One state folder, one run."""
    second = sentinel("up", "--state", str(up.state), "--port-base", str(free_base()))
    assert second.returncode == 1
    assert f"pid {up.process.pid}" in second.stderr
    assert "--state" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_a_killed_decision_point_is_started_again(up: Up) -> None:
    """Its death is told, and calls are decided again."""

    def pid() -> int:
        found = up.status()["components"]
        return int(next(each["pid"] for each in found if each["name"] == "decision-point"))

    before = pid()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: pid() not in {0, before}, "another process")
    eventually(lambda: up.status()["state"] == "healthy", "healthy again")
    assert up.reason("echo", "ops-agent") == "allowed"
    assert "decision-point was ended by SIGKILL; starting it again" in up.log.read_text()


def test_a_taken_port_is_named_with_the_mend(tmp_path: Path) -> None:
    """Before anything starts: the port, what needs it, the mend."""
    base = free_base()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", Ports(base).mcp))
        taken.listen()
        result = sentinel("up", "--state", str(tmp_path / "s"), "--port-base", str(base))
    assert result.returncode == 1
    assert result.stderr == (
        f"error: port {base + 11}, which the governed MCP server needs, is taken; "
        "choose other ports with --port-base N\n"
    )

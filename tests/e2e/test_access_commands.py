"""`sentinel access …` against a running stack: what a command changes, the next call notices."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.sentinel_up import Up
from tests.tools.waiting import eventually

SERVER = "mcp-servers/reference-server"
FOR_BOT = ("--server", SERVER, "--agent", "bot", "--rule", "list_invoices:allow")


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with tempfile.TemporaryDirectory(prefix="up-") as folder:
        running = Up(Path(folder) / "state")
        try:
            yield running
        finally:
            assert running.stop() == 0, running.log.read_text()


def access(up: Up, *words: str) -> str:
    done = up.command("access", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_grants_life_is_seen_by_calls(up: Up) -> None:
    """Created, disabled, enabled and deleted: each counts for the next call, and is recorded."""
    assert up.reason("list_invoices", "bot") == "no_matching_grant"
    created = access(up, "grant", "create", "bot-reads", *FOR_BOT)
    assert created == "grant mcp-servers/bot-reads created\n"
    eventually(lambda: up.reason("list_invoices", "bot") == "allowed", "the grant counts")
    assert rows(access(up, "grant", "list"))[::2] == [
        ["NAME", "NAMESPACE", "SERVER", "DISABLED"],
        ["bot-reads", "mcp-servers", "reference-server", "false"],
    ]
    eventually(lambda: len(up.calls("list_invoices")) > 1, "the calls in the trail")
    told = access(up, "grant", "disable", "bot-reads", "--dry-run")
    assert "would be disabled" in told
    assert "grant_disabled" in told
    access(up, "grant", "disable", "bot-reads")
    eventually(lambda: up.reason("list_invoices", "bot") == "grant_disabled", "it is disabled")
    access(up, "grant", "enable", "bot-reads")
    eventually(lambda: up.reason("list_invoices", "bot") == "allowed", "it is enabled")
    access(up, "grant", "delete", "bot-reads")
    eventually(lambda: up.reason("list_invoices", "bot") == "no_matching_grant", "it is gone")

    def actions() -> list[str]:
        changes = [e["payload"] for e in up.events() if e["event_type"] == "governance.change"]
        of_grant = [change for change in changes if change["name"] == "bot-reads"]
        assert all(change["actor"].startswith("key-") for change in of_grant), of_grant
        return [change["action"] for change in of_grant]

    expected = ["created", "changed", "changed", "deleted"]
    eventually(lambda: actions() == expected, "each change in the trail, once")


def test_a_revoked_session_denies(up: Up) -> None:
    """As mcp-runtime's own tools revoke it, with its columns."""
    assert access(up, "session", "revoke", "alice-reviews").endswith("revoked\n")
    assert rows(access(up, "session", "list")) == [
        ["NAME", "NAMESPACE", "SERVER", "REVOKED"],
        ["alice-reviews", "mcp-servers", "reference-server", "true"],
    ]
    alice = ("--agent", "finance-agent", "--human", "alice@example.com")
    told = json.loads(access(up, "what-can", *alice, "--session", "alice-reviews", "--json"))
    reasons = {c["reason"] for s in told["servers"] for t in s["tools"] for c in t["calls"]}
    assert reasons == {"session_revoked"}
    access(up, "session", "unrevoke", "alice-reviews")


def test_who_can_is_what_calls_get(up: Up) -> None:
    """An agent that it names can call the tool, one that it does not name cannot."""
    told = access(up, "who-can", "list_invoices", "--server", SERVER, "-o", "name")
    assert sorted(told.splitlines()) == ["finance-agent for alice@example.com", "ops-agent"]
    assert up.reason("list_invoices", "ops-agent") == "allowed"
    assert up.reason("list_invoices", "somebody") == "no_matching_grant"


def test_unused_is_what_no_call_used(up: Up) -> None:
    """A rule that a call used is not told; the grant of a person who never called is."""
    up.call("echo", "ops-agent", text="x")

    def unused() -> set[tuple[str, str]]:
        told = json.loads(access(up, "unused", "--json"))["unused"]
        return {(each["grant"]["name"], each.get("rule", "")) for each in told}

    eventually(lambda: ("ops-agent-reads", "echo:allow") not in unused(), "the call is stored")
    assert ("alice-finance", "") in unused()

"""Real MCP clients through the whole governed stack: what passes, what is denied, what is kept."""

import shutil
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from clients.modes import MODES, is_modern, run

from tests.tools.sentinel_up import Up
from tests.tools.stack import calls_by_trace, governed, recent, traceparent
from tests.tools.waiting import eventually

OPS = {"X-MCP-Agent-ID": "ops-agent"}
FINANCE = {"X-MCP-Human-ID": "alice@example.com", "X-MCP-Agent-ID": "finance-agent"}
ECHO = {"action": "call_tool", "name": "echo", "arguments": {"text": "grüße"}}
REFUND = {"action": "call_tool", "name": "refund_invoice", "arguments": {"number": "INV-1002"}}

DEMO_ACCESS = Path(__file__).parents[2] / "backend" / "demo" / "access"
TOLD = "ended"  # the file that a cancelled call writes

# Requests come last: a client that closes its session overtakes notifications under way.
# What must pass and be answered as by the server itself, in this order, in one session; the
# two denied calls stand between.
PASSING: Mapping[str, dict[str, Any]] = {
    "connect": {"action": "connect"},
    "tools": {"action": "list_tools"},
    "notification": {
        "action": "notify",
        "method": "notifications/progress",
        "params": {"progressToken": "mine", "progress": 1},
    },
    "progress": {
        "action": "call_tool",
        "name": "slow_report",
        "arguments": {"steps": 3},
        "progress": True,
    },
    "cancel": {
        "action": "cancel_tool",
        "name": "wait_for_ever",
        "arguments": {"call": TOLD},
        "after_progress": 2,
    },
    "call": ECHO,
    "structured": {"action": "call_tool", "name": "list_invoices"},
    "resources": {"action": "list_resources"},
    "resource": {"action": "read_resource", "uri": "invoices://INV-1001"},
    "no resource": {"action": "read_resource", "uri": "nothing://here"},
    "prompts": {"action": "list_prompts"},
    "prompt": {
        "action": "get_prompt",
        "name": "payment_reminder",
        "arguments": {"customer": "Acme"},
    },
}
DENIED: Mapping[str, dict[str, Any]] = {
    "denied": REFUND,
    "call after": ECHO,
    "denied again": {"action": "call_tool", "name": "no_such_tool"},
}
GOVERNED = {**DENIED, **PASSING}
TOOLS = {
    "refund_invoice": 1,
    "no_such_tool": 1,
    "echo": 2,
    "list_invoices": 1,
    "slow_report": 1,
    "wait_for_ever": 1,
}


@dataclass(frozen=True, slots=True)
class Session:
    """One client's session.

    Args:
        answers: what it was answered.
        ended: how the tool whose call was cancelled ended in the server.
        trail: the payloads of its requests' events.
        direct: what the server itself answers to `PASSING`.
        other: what another agent is answered to `REFUND`.
    """

    mode: str
    answers: Mapping[str, dict[str, Any]]
    ended: str
    trail: tuple[dict[str, Any], ...]
    direct: Mapping[str, dict[str, Any]]
    other: dict[str, Any]

    def calls(self) -> list[dict[str, Any]]:
        return [payload for payload in self.trail if payload.get("tool_name")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Up]:
    """The stack, governing a server whose `wait_for_ever` tells how its call ended."""
    access = folder / "access"
    shutil.copytree(DEMO_ACCESS, access)
    server = yaml.safe_load((access / "server.yaml").read_text())
    server["spec"]["tools"].append({"name": "wait_for_ever", "sideEffect": "read"})
    (access / "server.yaml").write_text(yaml.safe_dump(server))
    rule, grants = "    - {name: slow_report, decision: allow}\n", access / "grants.yaml"
    both = rule + rule.replace("slow_report", "wait_for_ever")
    grants.write_text(grants.read_text().replace(rule, both))
    command = (sys.executable, "-m", "tests.tools.watched_server", str(folder))
    with governed(folder, "--access", str(access), "--", *command) as running:
        yield running


@pytest.fixture(scope="module")
def upstream(up: Up) -> str:
    """Where the server itself answers."""
    components = {each["name"]: each for each in up.status()["components"]}
    return str(components["upstream"]["detail"])


@pytest.fixture(scope="module", params=MODES)
def session(up: Up, upstream: str, folder: Path, request: pytest.FixtureRequest) -> Session:
    """Everything as ops-agent, and the events of it all, outcomes joined."""
    mode, trace_id, url = request.param, uuid.uuid4().hex, up.endpoints["mcp"]
    headers = OPS | {"traceparent": traceparent(trace_id)}
    told = folder / TOLD
    told.unlink(missing_ok=True)
    cancel: dict[str, Any] = PASSING["cancel"] | {"arguments": {"call": "unwatched"}}
    unwatched: dict[str, dict[str, Any]] = {**PASSING, "cancel": cancel}
    # First, so that the list of invoices is the same for the two that follow.
    (other,) = run(mode, url, FINANCE, [REFUND])
    with ThreadPoolExecutor() as pool:  # two clients at once, to save time
        direct = pool.submit(run, mode, upstream, {}, list(unwatched.values()))
        answers = dict(zip(GOVERNED, run(mode, url, headers, list(GOVERNED.values())), strict=True))
    ended = eventually(lambda: told.exists() and told.read_text(), "the server ends the call")

    def is_whole() -> bool:
        trail = calls_by_trace(recent(up))[trace_id]
        methods = Counter(payload.get("rpc_method") for payload in trail)
        came = methods["tools/call"] >= sum(TOOLS.values()) and methods["notifications/progress"]
        return bool(came) and all("status" in payload for payload in trail)

    eventually(is_whole, "every call in the trail, with its outcome")
    trail = calls_by_trace(up.events())[trace_id]
    directly = dict(zip(PASSING, direct.result(), strict=True))
    return Session(mode, answers, ended, tuple(trail), directly, other)


def test_what_is_allowed_is_answered_as_by_the_server_itself(session: Session) -> None:
    """Results, errors, progress, resources and prompts equal those of the server asked directly."""
    for name, answer in session.direct.items():
        assert session.answers[name] == answer, name


def test_a_denied_call_raises_a_typed_error_that_says_why(session: Session) -> None:
    """The SDK's own error: code, message, reason and decision id."""
    types = {"python": "MCPError", "typescript-v1": "McpError", "typescript-v2": "ProtocolError"}
    for name in ("denied", "denied again"):
        answer = session.answers[name]
        assert answer["stage"] == "action"
        error = answer["error"]
        assert (error["type"], error["code"]) == (types[session.mode.rsplit("-", 1)[0]], 4030)
        assert "no access grant gives you this tool" in error["message"]
        assert error["data"]["reason"] == "tool_not_granted"
        assert uuid.UUID(error["data"]["decision_id"]).version == 7


def test_a_denial_is_found_by_its_decision_id(session: Session) -> None:
    """The event has decision, reason, tool, agent, and the outcome from Envoy."""
    expected = {"denied": "refund_invoice", "denied again": "no_such_tool"}
    for name, tool in expected.items():
        decision_id = session.answers[name]["error"]["data"]["decision_id"]
        (event,) = [call for call in session.trail if call["decision_id"] == decision_id]
        assert event["latency_ms"] > 0
        assert {
            "decision": "deny",
            "reason": "tool_not_granted",
            "tool_name": tool,
            "rpc_method": "tools/call",
            "agent_id": "ops-agent",
            "status": 200,
        }.items() <= event.items()


def test_every_call_is_in_the_trail_once(session: Session) -> None:
    """As many events as calls, each with its own decision id and its outcome."""
    calls = session.calls()
    assert Counter(call["tool_name"] for call in calls) == TOOLS
    assert len({call["decision_id"] for call in session.trail}) == len(session.trail)
    allowed = [
        call for call in calls if call["tool_name"] not in ("refund_invoice", "no_such_tool")
    ]
    assert {(call["decision"], call["reason"], call["status"]) for call in allowed} == {
        ("allow", "allowed", 200)
    }


def test_the_session_goes_on_after_a_denial(session: Session) -> None:
    """A legacy client stays in the session it opened; a modern one needs none."""
    assert session.answers["call after"]["result"]["content"][0]["text"] == "grüße"
    methods = Counter(payload.get("rpc_method") for payload in session.trail)
    assert methods["initialize"] == (0 if is_modern(session.mode) else 1)
    versions = {payload["protocol_version"] for payload in session.calls()}
    assert versions == {"2026-07-28" if is_modern(session.mode) else "2025-11-25"}


def test_a_cancelled_call_stops_in_the_server(session: Session) -> None:
    """What the client leaves, the server leaves too; progress had come before."""
    answer = session.answers["cancel"]
    assert answer["result"] == {"cancelled": True}
    assert [told["progress"] for told in answer["progress"]] == [1, 2]
    assert session.ended == "cancelled"


def test_a_notification_is_accepted(session: Session) -> None:
    """It passes to the server, and its event says so."""
    assert session.answers["notification"]["http_status"] == 202
    (event,) = [
        payload
        for payload in session.trail
        if payload.get("rpc_method") == "notifications/progress"
    ]
    assert (event["decision"], event["reason"], event["status"]) == ("allow", "not_tool_call", 202)


def test_another_agent_may_what_the_first_may_not(session: Session) -> None:
    """The refund that was denied to ops-agent passes for Alice's finance agent."""
    assert "error" in session.answers["denied"]
    assert session.other["result"]["structuredContent"]["refunded"] is True

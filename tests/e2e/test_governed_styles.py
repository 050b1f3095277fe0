"""The two other deny styles of a server, as each real client shows them."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from clients.modes import MODES, run

from tests.tools.sentinel_up import Up
from tests.tools.stack import calls_by_trace, governed, recent, traceparent
from tests.tools.waiting import eventually

ECHO = {"action": "call_tool", "name": "echo", "arguments": {"text": "still here"}}
REFUND = {"action": "call_tool", "name": "refund_invoice", "arguments": {"number": "INV-1001"}}
DENIAL = "mcpruntime.org/denial"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with governed(tmp_path_factory.mktemp("styles")) as running:
        yield running


def deny_by(up: Up, style: str) -> None:
    """Edit server.yaml, and wait until the decision point runs it."""

    def revision() -> str:
        return str(up.status()["decision_point"]["policy"]["revision"])

    before, file = revision(), up.state / "access" / "server.yaml"
    server = yaml.safe_load(file.read_text())
    server["spec"]["policy"]["denyStyle"] = style
    file.write_text(yaml.safe_dump(server))
    eventually(lambda: revision() != before, f"deny style {style} runs")


@dataclass(frozen=True, slots=True)
class Denied:
    """A client's answer to a denied call, and the call's event."""

    answer: dict[str, Any]
    event: dict[str, Any]


@pytest.fixture(scope="module")
def tool_result(up: Up) -> dict[str, Denied]:
    """By client mode."""
    return denied_by(up, "tool_result")


@pytest.fixture(scope="module")
def http_403(up: Up) -> dict[str, Denied]:
    """By client mode."""
    return denied_by(up, "http_403")


def denied_by(up: Up, style: str) -> dict[str, Denied]:
    """Set the style and let all clients call, two at a time; their sessions must go on."""
    deny_by(up, style)
    traces = {mode: uuid.uuid4().hex for mode in MODES}

    def ask_as(mode: str) -> dict[str, Any]:
        headers = {"X-MCP-Agent-ID": "ops-agent", "traceparent": traceparent(traces[mode])}
        answer: dict[str, Any]
        answer, after = run(mode, up.endpoints["mcp"], headers, [REFUND, ECHO])
        assert after["result"]["content"] == [{"type": "text", "text": "still here"}]
        return answer

    with ThreadPoolExecutor(max_workers=2) as pool:
        answers = dict(zip(MODES, pool.map(ask_as, MODES), strict=True))
    return {mode: Denied(answers[mode], refund_of(up, traces[mode])) for mode in MODES}


def refund_of(up: Up, trace_id: str) -> dict[str, Any]:
    """The event of the one denied call, once its outcome has been joined."""

    def refunds() -> list[dict[str, Any]]:
        calls = calls_by_trace(recent(up))[trace_id]
        found = [call for call in calls if call.get("tool_name") == "refund_invoice"]
        return found if found and all("status" in call for call in found) else []

    (event,) = eventually(refunds, "the denial in the trail")
    assert (event["decision"], event["reason"]) == ("deny", "tool_not_granted")
    return dict(event)


@pytest.mark.parametrize("mode", MODES)
def test_a_tool_result_says_why_to_the_model(tool_result: dict[str, Denied], mode: str) -> None:
    """A result marked as an error: the sentence as text, reason and decision id in `_meta`."""
    answer, event = tool_result[mode].answer, tool_result[mode].event
    assert (answer["ok"], answer["http_status"], event["status"]) == (True, 200, 200)
    result = answer["result"]
    assert result["isError"] is True
    assert "no access grant gives you this tool" in result["content"][0]["text"]
    assert event["decision_id"] in result["content"][0]["text"]
    told = result["_meta"][DENIAL]
    assert (told["reason"], told["decision_id"]) == ("tool_not_granted", event["decision_id"])


@pytest.mark.parametrize("mode", MODES)
def test_a_403_shows_as_far_as_the_client_shows_it(http_403: dict[str, Denied], mode: str) -> None:
    """The TypeScript SDKs show the body; the Python SDK only that the server refused."""
    answer, event = http_403[mode].answer, http_403[mode].event
    error = answer["error"]
    assert (error["http_status"], event["status"]) == (403, 403)
    match mode.rsplit("-", 1)[0]:
        case "python":
            assert (error["type"], error["code"]) == ("MCPError", -32603)
            return
        case "typescript-v1":
            assert (error["type"], error["code"]) == ("StreamableHTTPError", 403)
            shown = error["message"]
        case _:
            assert (error["type"], error["data"]["status"]) == ("SdkHttpError", 403)
            shown = error["data"]["text"]
    body = json.loads(shown[shown.index("{") :])
    assert body["error"] == "tool_not_granted"
    assert body["decision_id"] == event["decision_id"]

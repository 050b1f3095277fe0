"""Every client mode against the reference server, with nothing in between."""

import http.client
import json
import signal
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from clients.modes import MODES, is_modern, run
from clients.reference import reference_server

from tests.tools.waiting import SECONDS

ACTIONS: Mapping[str, dict[str, Any]] = {
    "connect": {"action": "connect"},
    "tools": {"action": "list_tools"},
    "echo": {"action": "call_tool", "name": "echo", "arguments": {"text": "grüße"}},
    "invoices": {"action": "call_tool", "name": "list_invoices"},
    "refund": {
        "action": "call_tool",
        "name": "refund_invoice",
        "arguments": {"number": "INV-1002"},
    },
    "progress": {
        "action": "call_tool",
        "name": "slow_report",
        "arguments": {"steps": 3},
        "progress": True,
    },
    "cancel": {
        "action": "cancel_tool",
        "name": "slow_report",
        "arguments": {"steps": 10_000},
        "after_progress": 2,
    },
    "after cancel": {"action": "call_tool", "name": "echo", "arguments": {"text": "still here"}},
    "notification": {
        "action": "notify",
        "method": "notifications/progress",
        "params": {"progressToken": "mine", "progress": 1},
    },
    "resources": {"action": "list_resources"},
    "resource": {"action": "read_resource", "uri": "invoices://INV-1001"},
    "no resource": {"action": "read_resource", "uri": "nothing://here"},
    "prompts": {"action": "list_prompts"},
    "prompt": {
        "action": "get_prompt",
        "name": "payment_reminder",
        "arguments": {"customer": "Acme"},
    },
    "failing": {"action": "call_tool", "name": "test_error_handling"},
}

HEADERS = {
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with reference_server() as server:
        yield server.url


@pytest.fixture(scope="module", params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def answers(url: str, mode: str) -> dict[str, dict[str, Any]]:
    """One session that does every action."""
    return dict(zip(ACTIONS, run(mode, url, {}, list(ACTIONS.values())), strict=True))


def text_of(answer: dict[str, Any]) -> str:
    assert answer["ok"], answer
    return answer["result"]["content"][0]["text"]


def post(
    url: str, body: dict[str, Any], headers: Mapping[str, str] = {}
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SECONDS)
    connection.request("POST", "/mcp", json.dumps(body), {**HEADERS, **headers})
    return connection, connection.getresponse()


def test_each_mode_speaks_its_era(answers: dict[str, Any], mode: str) -> None:
    """A client negotiates the newest revision of its era."""
    expected = "2026-07-28" if is_modern(mode) else "2025-11-25"
    assert answers["connect"]["result"] == {"protocolVersion": expected}


def test_tools_of_every_side_effect_class_are_listed(answers: dict[str, Any]) -> None:
    """A client sees reading, writing and destructive tools, told apart by their annotations."""
    tools = {tool["name"]: tool["annotations"] for tool in answers["tools"]["result"]["tools"][1:6]}
    assert {name: notes.get("destructiveHint") for name, notes in tools.items()} == {
        "list_invoices": None,
        "create_invoice": False,
        "refund_invoice": True,
        "echo": None,
        "slow_report": None,
    }


def test_a_call_returns_what_the_tool_says(answers: dict[str, Any]) -> None:
    """A tool's text arrives unchanged, beyond ASCII too."""
    assert text_of(answers["echo"]) == "grüße"


def test_structured_results_arrive(answers: dict[str, Any]) -> None:
    """A tool's structured result arrives beside its text."""
    invoices = answers["invoices"]["result"]["structuredContent"]["result"]
    assert {"number": "INV-1001", "customer": "Acme"}.items() <= invoices[0].items()


def test_a_destructive_tool_acts(answers: dict[str, Any]) -> None:
    """Without a gate in front, anybody can refund an invoice."""
    assert answers["refund"]["result"]["structuredContent"]["refunded"] is True


def test_progress_streams_before_the_result(answers: dict[str, Any]) -> None:
    """Each step of a slow call reaches the progress callback, in order."""
    assert [told["progress"] for told in answers["progress"]["progress"]] == [1, 2, 3]
    assert text_of(answers["progress"]) == "report ready after 3 steps"


def test_a_call_can_be_cancelled(answers: dict[str, Any]) -> None:
    """A client leaves a call that would run for minutes, and its session goes on."""
    assert answers["cancel"]["result"] == {"cancelled": True}
    assert text_of(answers["after cancel"]) == "still here"


def test_a_notification_is_accepted(answers: dict[str, Any]) -> None:
    """A notification is answered with 202."""
    assert (answers["notification"]["ok"], answers["notification"]["http_status"]) == (True, 202)


def test_resources_are_listed_and_read(answers: dict[str, Any]) -> None:
    """A client lists resources and reads one made from a template."""
    uris = [resource["uri"] for resource in answers["resources"]["result"]["resources"]]
    assert "invoices://all" in uris
    contents = answers["resource"]["result"]["contents"][0]
    assert json.loads(contents["text"])["customer"] == "Acme"


def test_prompts_are_listed_and_filled(answers: dict[str, Any]) -> None:
    """A client lists prompts and gets one with its argument filled in."""
    assert "payment_reminder" in [p["name"] for p in answers["prompts"]["result"]["prompts"]]
    message = answers["prompt"]["result"]["messages"][0]
    assert message["content"]["text"] == "Write a friendly payment reminder to Acme."


def test_a_protocol_error_is_typed(answers: dict[str, Any]) -> None:
    """An unknown resource raises the SDK's own error with the JSON-RPC code."""
    answer = answers["no resource"]
    assert (answer["ok"], answer["error"]["code"]) == (False, -32602)


def test_a_failing_tool_is_a_result(answers: dict[str, Any]) -> None:
    """A tool's own failure is a result marked as an error, not a protocol error."""
    assert answers["failing"]["result"]["isError"] is True


def test_a_client_without_a_server_says_so(mode: str) -> None:
    """When the session never comes up, every action answers with the failure to connect."""
    answers = run(mode, "http://127.0.0.1:9/mcp", {}, [{"action": "list_tools"}] * 2)
    assert [(answer["stage"], answer["ok"]) for answer in answers] == [("connect", False)] * 2


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:1", 200), ("localhost", 200), ("mcp.example", 421), ("127.0.0.1.evil", 421)],
)
def test_hosts_other_than_loopback_are_refused(url: str, host: str, status: int) -> None:
    """A Host value that is not loopback gets 421, which stops DNS rebinding."""
    assert post(url, INITIALIZE, {"host": host})[1].status == status


def test_origins_other_than_loopback_are_refused(url: str) -> None:
    """A browser's page from elsewhere gets 403."""
    assert post(url, INITIALIZE, {"origin": "http://evil.example"})[1].status == 403


def test_a_named_host_is_answered() -> None:
    """Behind a proxy that keeps the client's Host, --allowed-host lets that one pass."""
    with reference_server(["--allowed-host", "mcp.example"]) as server:
        assert post(server.url, INITIALIZE, {"host": "mcp.example"})[1].status == 200
        assert post(server.url, INITIALIZE, {"host": "mcp.example:8443"})[1].status == 200
        assert post(server.url, INITIALIZE, {"host": "other.example"})[1].status == 421


def test_a_cut_stream_is_resumed(url: str) -> None:
    """A legacy client that comes back with the last event id gets the result it missed."""
    session, stream = post(url, INITIALIZE)
    stream.read()
    headers = {
        "mcp-session-id": stream.headers["mcp-session-id"],
        "mcp-protocol-version": "2025-11-25",
    }
    post(url, {"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)[1].read()
    call = {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": "test_reconnection"},
    }
    cut = post(url, call, headers)[1].read().decode()
    assert "result" not in cut
    last = cut.split("id: ")[1].split()[0]
    session.request("GET", "/mcp", headers={**HEADERS, **headers, "last-event-id": last})
    resumed = session.getresponse()
    lines = iter(resumed.readline, b"")
    message = next(line for line in lines if b"Reconnection test completed" in line)
    assert json.loads(message.removeprefix(b"data: "))["id"] == 7
    session.close()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_server_stops_under_open_streams(stop: signal.Signals) -> None:
    """A stop signal ends the server although a call still streams."""
    with reference_server() as server:
        call = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {
                "name": "slow_report",
                "arguments": {"steps": 10_000},
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientCapabilities": {},
                    "progressToken": 1,
                },
            },
        }
        headers = {
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/call",
            "mcp-name": "slow_report",
        }
        connection, stream = post(server.url, call, headers)
        assert stream.readline()
        server.process.send_signal(stop)
        assert server.process.wait(SECONDS) in (0, -stop)
        connection.close()

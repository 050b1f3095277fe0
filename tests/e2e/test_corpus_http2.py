"""What only HTTP/2 can carry, through real Envoy and decision point before the lenient server."""

from collections.abc import Iterator

import pytest
from servers import raw_http2
from servers.guard import guarded, outcome, running_decision_point
from servers.running import Server, running

from tests.corpus.write.shape import CALL, ECHO, text

RESET, DENIED, PASSES = "reset", "tool_not_granted", "passes"
BODY, ECHO_BODY = text("legacy", CALL).encode(), text("legacy", ECHO).encode()
AGENT = "x-mcp-agent-id"
# What an ordinary call has; a case replaces some of it (None: leaves it out) and adds to it.
ORDINARY: dict[str, str | None] = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/mcp",
    ":authority": "server.test",
    "content-type": "application/json",
    AGENT: "corpus-agent",
}
Bent = tuple[str, dict[str, str | None], list[tuple[str, str]]]
CASES: dict[str, Bent] = {
    "plain": (DENIED, {}, []),
    "value-crlf": (RESET, {}, [("x-own", "a\r\nX-MCP-Agent-ID: admin")]),
    "value-lf": (RESET, {}, [("x-own", "a\nX-MCP-Agent-ID: admin")]),
    "value-cr": (RESET, {}, [("x-own", "a\rX-MCP-Agent-ID: admin")]),
    "value-nul": (RESET, {}, [("x-own", "a\0")]),
    "agent-cr": (RESET, {AGENT: "adm\rin"}, []),
    "agent-spaces": ("invalid_header", {AGENT: " admin "}, []),
    "agent-tab": ("invalid_header", {AGENT: "admin\t"}, []),
    "agent-twice": ("duplicate_header", {}, [(AGENT, "admin")]),
    "agent-upper": (RESET, {AGENT: None}, [("X-MCP-Agent-ID", "admin")]),
    "agent-underscore": (RESET, {}, [("x_mcp_agent_id", "admin")]),
    "type-spaces": ("invalid_header", {"content-type": " application/json"}, []),
    "name-crlf": (RESET, {}, [("x-a\r\nx-mcp-agent-id", "admin")]),
    "name-colon": (RESET, {}, [("x-mcp-agent-id:", "admin")]),
    "name-space": (RESET, {}, [("x-mcp-agent-id ", "admin")]),
    "transfer-encoding": (RESET, {}, [("transfer-encoding", "chunked")]),
    "connection": (RESET, {}, [("connection", AGENT)]),
    "length-short": (RESET, {}, [("content-length", "1")]),
    "length-long": (RESET, {}, [("content-length", "9999")]),
    "host-beside": (DENIED, {}, [("host", "evil.test")]),
    "authority-comma": ("duplicate_header", {":authority": "a,b"}, []),
    "authority-crlf": (RESET, {":authority": "a\r\nX-MCP-Agent-ID: admin"}, []),
    "authority-user": (RESET, {":authority": "admin@server.test"}, []),
    "path-crlf": (RESET, {":path": "/mcp HTTP/1.1\r\nX-MCP-Agent-ID: admin\r\nX: "}, []),
    "path-space": (RESET, {":path": "/mcp HTTP/1.1"}, []),
    "path-absolute": (RESET, {":path": "http://evil.test/mcp"}, []),
    "path-fragment": ("400 malformed_http", {":path": "/mcp#x"}, []),
    "path-none": (RESET, {":path": ""}, []),
    "path-twice": (RESET, {}, [(":path", "/x")]),
    "method-lower": ("http_method_not_allowed", {":method": "post"}, []),
    "method-get-lower": ("http_method_not_allowed", {":method": "get"}, []),
    "method-get": ("unexpected_body", {":method": "GET"}, []),
    "method-unknown": ("http_method_not_allowed", {":method": "CALL"}, []),
    "method-space": (RESET, {":method": "POST /x HTTP/1.1"}, []),
    "method-crlf": (RESET, {":method": "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST"}, []),
    "method-override": (DENIED, {}, [("x-http-method-override", "GET")]),
    "scheme": (RESET, {":scheme": "http://evil.test/?"}, []),
    "protocol": (RESET, {}, [(":protocol", "websocket")]),
    "pseudo-unknown": (RESET, {}, [(":x", "y")]),
    "no-agent": ("missing_identity", {AGENT: None}, []),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running("lenient-go", tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="module")
def port(server: Server) -> Iterator[int]:
    with running_decision_point() as path, guarded(server.url, path) as listening:
        yield listening


def block(changes: dict[str, str | None], more: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """A header block: pseudo-headers first, as they must stand."""
    ordinary = [(name, value) for name, value in (ORDINARY | changes).items() if value is not None]
    pseudo = [pair for pair in more if pair[0].startswith(":")]
    return [*pseudo, *ordinary, *(pair for pair in more if pair not in pseudo)]


@pytest.mark.parametrize("case", CASES)
def test_no_http2_request_runs_the_denied_tool(server: Server, port: int, case: str) -> None:
    """Reset, refused or denied: the lenient server never runs the tool that was not granted."""
    expected, changes, more = CASES[case]
    status, body = raw_http2.exchange(port, block(changes, more), BODY)
    assert (outcome(status, body) if status else RESET) == expected
    assert "refund" not in server.executed()


def test_trailers_say_nothing(server: Server, port: int) -> None:
    """An identity in trailers is nobody's, and neither it nor any other trailer passes."""
    headers, trailers = block({AGENT: None}, []), [(AGENT, "admin"), ("mcp-name", "refund")]
    status, body = raw_http2.exchange(port, headers, BODY, trailers)
    assert outcome(status, body) == "missing_identity"
    assert "refund" not in server.executed()


def test_a_granted_call_passes(server: Server, port: int) -> None:
    """The same request for the granted tool runs it once."""
    before = server.executed().count("echo")
    status, body = raw_http2.exchange(port, block({}, []), ECHO_BODY)
    assert outcome(status, body) == PASSES
    assert server.executed().count("echo") == before + 1

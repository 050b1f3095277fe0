"""The sidecar's Envoy as users meet it: a real Envoy, a real server behind it."""

import os
import stat
from collections.abc import Iterator

import httpx2
import pytest

from tests.tools.decision_stub import DecisionStub, deny, serving
from tests.tools.envoy_process import RunningEnvoy, running_sidecar
from tests.tools.raw_http import connection, exchange, get, post, read_until
from tests.tools.recording_server import EVENTS, ODD_BODY, ODD_HEADERS, RecordingServer, recording

LIMIT = 4194304
FORGED = (
    "X-Envoy-Auth-Partial-Body: true\r\nX-Envoy-Upstream-Rq-Timeout-Ms: 1\r\n"
    "X-Envoy-Original-Path: /forged\r\nX-Envoy-Internal: true\r\nX-HTTP-Method-Override: GET\r\n"
    "X-HTTP-Method: GET\r\nX-Method-Override: GET\r\nX-Request-Id: forged\r\n"
)


@pytest.fixture(scope="module")
def server() -> Iterator[RecordingServer]:
    with recording() as running:
        yield running


@pytest.fixture(scope="module")
def envoy(server: RecordingServer) -> Iterator[RunningEnvoy]:
    with running_sidecar(server.url) as running:
        yield running


@pytest.fixture(scope="module")
def decision_point(envoy: RunningEnvoy) -> Iterator[DecisionStub]:
    with serving(DecisionStub(), envoy.check_socket) as stub:
        yield stub


@pytest.fixture
def stub(decision_point: DecisionStub, server: RecordingServer) -> DecisionStub:
    decision_point.reset()
    server.reset()
    return decision_point


class TestAllowedCall:
    def test_request_passes_byte_for_byte(
        self, envoy: RunningEnvoy, server: RecordingServer, stub: DecisionStub
    ) -> None:
        """Body, header names, duplicates and order of an allowed call reach the server as sent."""
        body = b'{"a":"\xc3\xa9\\u0000\x7f" ,\r\n\t"b":[ ] }\n '
        sent = (
            "CoNtent-Type: application/json\r\nX-Dup: 1\r\nX-Dup: 2\r\n"
            "Mcp-Name: =?base64?eA==?=\r\n"
        )
        assert exchange(envoy.port, post("/mcp?q=%20a", sent, body)).status == 201
        (seen,) = server.requests
        assert (seen.method, seen.path, seen.body) == ("POST", "/mcp?q=%20a", body)
        assert seen.headers[1:5] == (
            ("CoNtent-Type", "application/json"),
            ("X-Dup", "1"),
            ("X-Dup", "2"),
            ("Mcp-Name", "=?base64?eA==?="),
        )
        assert seen.values("host") == ["server.test"]
        added = {name for name, _ in seen.headers[6:]}
        assert added == {"x-forwarded-for", "x-forwarded-proto", "x-request-id"}

    def test_response_passes_byte_for_byte(self, envoy: RunningEnvoy, stub: DecisionStub) -> None:
        """Status line, headers and body of the answer reach the client as the server sent them."""
        answer = exchange(envoy.port, post())
        assert answer.lines[0] == "HTTP/1.1 201 Odd But Fine"
        assert answer.body == ODD_BODY
        assert answer.lines[1:7] == [f"{name}: {value}" for name, value in ODD_HEADERS]
        assert not [line for line in answer.lines if line.lower().startswith(("x-envoy", "via"))]

    def test_check_sees_what_the_server_sees(
        self, envoy: RunningEnvoy, server: RecordingServer, stub: DecisionStub
    ) -> None:
        """The decision point gets raw body and headers (not UTF-8), peer and request id."""
        exchange(envoy.port, post("/mcp", "X-Dup: 1\r\nX-Dup: 2\r\nX-Raw: caf\u00e9\r\n", b"\x00{"))
        (asked,) = stub.asked
        http = asked.attributes.request.http
        values = [(h.key, h.raw_value) for h in http.header_map.headers]
        assert http.raw_body == b"\x00{"
        assert [value for key, value in values if key == "x-dup"] == [b"1", b"2"]
        assert dict(values)["x-raw"] == b"caf\xe9"
        assert asked.attributes.source.address.socket_address.address == "127.0.0.1"
        assert server.requests[0].values("x-request-id") == [dict(values)["x-request-id"].decode()]

    def test_largest_body_passes(
        self, envoy: RunningEnvoy, server: RecordingServer, stub: DecisionStub
    ) -> None:
        """A body of exactly the limit is decided upon whole, and passes."""
        assert exchange(envoy.port, post(body=b"x" * LIMIT)).status == 201
        assert len(server.requests[0].body) == LIMIT
        assert len(stub.asked[0].attributes.request.http.raw_body) == LIMIT

    def test_event_stream_is_not_buffered(
        self, envoy: RunningEnvoy, server: RecordingServer, stub: DecisionStub
    ) -> None:
        """The first event arrives while the server has not written the second."""
        with connection(envoy.port) as client:
            client.sendall(get("/events"))
            assert EVENTS[1] not in read_until(client, EVENTS[0])
            server.more.set()
            read_until(client, EVENTS[1])

    def test_http2_clients_are_served(
        self, envoy: RunningEnvoy, server: RecordingServer, stub: DecisionStub
    ) -> None:
        """A client that speaks HTTP/2 without TLS is served like any other."""
        with httpx2.Client(http1=False, http2=True, trust_env=False) as client:
            answer = client.post(f"{envoy.url}/mcp", content=b"{}")
        assert (answer.http_version, answer.status_code) == ("HTTP/2", 201)
        assert server.requests[0].body == b"{}"

    @pytest.mark.parametrize("offer", ["h2c", "TLS/1.2"])
    def test_offers_are_ignored(
        self, envoy: RunningEnvoy, server: RecordingServer, stub: DecisionStub, offer: str
    ) -> None:
        """What Java clients offer on every request is ignored: the request itself is served."""
        headers = (
            f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {offer}\r\nHTTP2-Settings: AAMA\r\n"
        )
        assert exchange(envoy.port, get(headers=headers)).status == 201
        assert server.requests[0].values("upgrade") == []


class TestForgedHeaders:
    def test_envoys_own_headers_and_overrides_are_stripped(
        self, envoy: RunningEnvoy, server: RecordingServer, stub: DecisionStub
    ) -> None:
        """Neither the server nor the decision point sees a client's x-envoy-… or override."""
        exchange(envoy.port, post(headers=FORGED))
        names = {name.lower() for name, _ in server.requests[0].headers}
        assert not [n for n in names if n.startswith("x-envoy") or "method" in n]
        asked = stub.asked[0].attributes.request.http.header_map.headers
        seen = {header.key: header.raw_value for header in asked}
        assert seen["x-envoy-auth-partial-body"] == b"false"
        assert not [name for name in seen if "method-" in name or "original" in name]

    def test_request_id_is_ours(
        self, envoy: RunningEnvoy, server: RecordingServer, stub: DecisionStub
    ) -> None:
        """A client's x-request-id is replaced; the new one goes to server and client."""
        answer = exchange(envoy.port, post(headers=FORGED))
        assert server.requests[0].values("x-request-id") == answer.values("x-request-id")
        assert answer.values("x-request-id") != ["forged"]


class TestDenial:
    @pytest.mark.parametrize("status", [200, 400, 403, 413, 503])
    def test_denials_pass_unchanged(
        self, envoy: RunningEnvoy, server: RecordingServer, stub: DecisionStub, status: int
    ) -> None:
        """Status and body of a denial are the decision point's; the server is not called."""
        stub.answer = deny(status, '{"jsonrpc":"2.0", "id":7}')
        answer = exchange(envoy.port, post())
        assert (answer.status, answer.body) == (status, b'{"jsonrpc":"2.0", "id":7}')
        assert server.requests == []


class TestRefusedByEnvoy:
    CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    BOTH = CHUNKED.replace(b"\r\nT", b"\r\nContent-Length: 5\r\nT") + b"0\r\n\r\n"
    WEBSOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\n"

    @pytest.mark.parametrize(
        ("request_bytes", "status", "reason", "details"),
        [
            (post(body=b"x" * (LIMIT + 1)), 413, "request_too_large", "request_payload_too_large"),
            (
                CHUNKED + b"500000\r\n" + b"x" * 0x500000 + b"\r\n0\r\n\r\n",
                *(413, "request_too_large", "request_payload_too_large"),
            ),
            (get(headers=WEBSOCKET), 403, "upgrade_refused", "upgrade_failed"),
            (
                b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
                *(404, "connect_refused", "route_not_found"),
            ),
            (post(headers="X_y: 1\r\n"), 400, "malformed_http", "http1.unexpected_underscore"),
            (BOTH, 400, "malformed_http", "http1.content_length_and_chunked_not_allowed"),
            (
                CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n",
                *(501, "encoding_refused", "http1.invalid_transfer_encoding"),
            ),
            (get(headers="A : b\r\n"), 400, "malformed_http", "http1.codec_error"),
            (b"FOO / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed_http", "http1.codec_error"),
            (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed_http", "missing_host_header"),
            (get("/a%2fb?t=secret"), 400, "malformed_http", "path_normalization_failed"),
            (get("/a%5Cb"), 400, "malformed_http", "path_normalization_failed"),
            (b"GET / HTTP/1.0\r\nHost: h\r\n\r\n", 426, "http_1_0_refused", "low_version"),
            (
                get(headers=f"A: {'a' * 70000}\r\n"),
                *(431, "headers_too_large", "http1.headers_too_large"),
            ),
            (
                get(headers="".join(f"A{n}: a\r\n" for n in range(120))),
                *(431, "headers_too_large", "http1.too_many_headers"),
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_refusals_are_json_rpc_and_reach_nobody(
        self,
        envoy: RunningEnvoy,
        server: RecordingServer,
        stub: DecisionStub,
        request_bytes: bytes,
        status: int,
        reason: str,
        details: str,
    ) -> None:
        """Refused before Check: a JSON-RPC error without id, a line in the undecided log."""
        answer = exchange(envoy.port, request_bytes)
        assert answer.status == status
        assert answer.values("content-type") == ["application/json"]
        body = answer.json()
        assert (body["jsonrpc"], body["id"]) == ("2.0", None)
        assert (body["error"]["code"], body["error"]["data"]["reason"]) == (-32600, reason)
        assert (server.requests, stub.asked) == ([], [])
        line = envoy.undecided(lambda line: line["details"] == details)
        assert line["status"] == status

    def test_paths_are_read_in_one_way(
        self, envoy: RunningEnvoy, server: RecordingServer, stub: DecisionStub
    ) -> None:
        """Decision point and server see the same, normalised path."""
        exchange(envoy.port, get("/a/../b//c/./d?x=/../y"))
        assert server.requests[0].path == "/b/c/d?x=/../y"
        assert stub.asked[0].attributes.request.http.path == "/b/c/d?x=/../y"

    def test_a_dead_server_is_said_so(self, envoy: RunningEnvoy, stub: DecisionStub) -> None:
        """A server that hangs up gives a JSON-RPC error that claims nothing about the effect."""
        answer = exchange(envoy.port, get("/die"))
        assert answer.status == 503
        assert answer.json()["error"]["data"]["reason"] == "upstream_unavailable"


class TestLogs:
    def test_decision_id_reaches_the_access_log(
        self, envoy: RunningEnvoy, stub: DecisionStub
    ) -> None:
        """Allowed and denied calls are logged with the id of their decision and the outcome."""
        exchange(envoy.port, post())
        stub.answer = deny(200, "{}")
        exchange(envoy.port, post())
        allowed, denied = (stub.outcome_of(decision) for decision in stub.decisions)
        assert (allowed.status, allowed.bytes_out) == (201, len(ODD_BODY))
        assert allowed.bytes_in > 0
        assert 0 < allowed.latency_ms < 60_000
        assert (denied.status, denied.response_flags) == (200, "UAEX")

    def test_each_request_is_in_exactly_one_log(
        self, envoy: RunningEnvoy, stub: DecisionStub
    ) -> None:
        """The undecided log holds the requests without a decision, the other log the rest."""
        before = len(envoy.undecided_log.read_text().splitlines())
        exchange(envoy.port, post())
        refused = exchange(
            envoy.port, get("/x?token=secret", "Connection: upgrade\r\nUpgrade: a\r\n")
        )
        exchange(envoy.port, post())
        (request_id,) = refused.values("x-request-id")
        line = envoy.undecided(lambda line: line["request_id"] == request_id)
        for decision in stub.decisions:
            stub.outcome_of(decision)
        assert len(envoy.undecided_log.read_text().splitlines()) == before + 1
        assert stub.outcomes.keys() == set(stub.decisions)
        assert (line["method"], line["path"], line["status"]) == ("GET", "/x", 403)
        assert (line["peer"], line["protocol"]) == ("127.0.0.1", "HTTP/1.1")

    def test_no_secret_reaches_the_file(self, envoy: RunningEnvoy, stub: DecisionStub) -> None:
        """Neither query nor tokens of a refused request are written; its trace is."""
        trace = f"00-{'a' * 32}-{'b' * 16}-01"
        headers = (
            f"Authorization: Bearer hush\r\nTraceparent: {trace}\r\n"
            "Connection: upgrade\r\nUpgrade: b\r\nX-Envoy-Original-Path: /forged\r\n"
        )
        exchange(envoy.port, get("/y?token=hush", headers))
        line = envoy.undecided(lambda line: line["traceparent"] == trace)
        assert line["path"] == "/y"
        assert "hush" not in envoy.undecided_log.read_text()
        assert "forged" not in envoy.undecided_log.read_text()

    def test_admin_is_a_socket_for_its_owner(self, envoy: RunningEnvoy) -> None:
        """The admin listens on a socket file that nobody else may open."""
        mode = os.stat(envoy.folder / "admin.sock").st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600

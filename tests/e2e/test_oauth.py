"""Mode oauth as callers meet it: a real provider, a real Envoy, the decision point behind it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from tests.tools.envoy_process import RunningEnvoy, running_sidecar
from tests.tools.forgeries import forged_tokens
from tests.tools.oidc_provider import Provider, certify, provider
from tests.tools.point_process import RunningPoint, running_point
from tests.tools.raw_http import RawResponse, exchange, get, post
from tests.tools.recording_server import RecordingServer, recording
from tests.tools.waiting import eventually

AUDIENCE = "https://mcp.example/mcp"
ACCESS = """\
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {{name: demo, namespace: home}}
spec:
  auth: {{mode: oauth, issuerURL: "{issuer}", audience: "{audience}"}}
  tools: [{{name: echo, sideEffect: read}}]
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {{name: alice, namespace: home}}
spec: {{serverRef: {{name: demo}}, subject: {{humanID: alice, agentID: ops}}}}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAgentSession
metadata: {{name: s-1, namespace: home}}
spec: {{serverRef: {{name: demo}}, subject: {{humanID: alice}}, consentedTrust: low}}
"""
CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "echo"}}
CHALLENGE = 'Bearer error="invalid_token", resource_metadata='
METADATA = '"http://server.test/.well-known/oauth-protected-resource/mcp"'
IDENTITY = ("x-mcp-human-id", "x-mcp-agent-id", "x-mcp-team-id", "x-mcp-agent-session")


@dataclass(frozen=True)
class Stack:
    """Provider, server, Envoy and decision point."""

    provider: Provider
    server: RecordingServer
    envoy: RunningEnvoy
    point: RunningPoint

    def call(self, token: str = "", headers: str = "") -> RawResponse:
        """A tools/call of echo with a bearer token."""
        credential = f"Authorization: Bearer {token}\r\n" if token else ""
        lines = f"Content-Type: application/json\r\n{credential}{headers}"
        return exchange(self.envoy.port, post("/mcp", lines, json.dumps(CALL).encode()))

    def reason(self, token: str = "", headers: str = "") -> str:
        """Why it was refused; `allowed` where the server answered."""
        answer = self.call(token, headers)
        return "allowed" if answer.status == 201 else answer.json()["error"]["data"]["reason"]


@contextmanager
def stack(issuer: Provider, hops: int = 0, **environ: str) -> Iterator[Stack]:
    with ExitStack() as opened:
        server = opened.enter_context(recording())
        envoy = opened.enter_context(running_sidecar(server.url, trusted_hops=hops))
        access = ACCESS.format(issuer=issuer.issuer, audience=AUDIENCE)
        settings = {"JWKS_ALLOW_LOOPBACK_HTTP": "true", "JWKS_COOLDOWN_SECONDS": "0.1", **environ}
        point = opened.enter_context(running_point(envoy.folder, access, **settings))
        yield Stack(issuer, server, envoy, point)


@pytest.fixture(scope="module")
def shared() -> Iterator[Stack]:
    with provider(AUDIENCE) as issuer, stack(issuer) as running:
        eventually(lambda: running.point.token_keys()["ready"], "keys are fetched")
        yield running


@pytest.fixture
def here(shared: Stack) -> Stack:
    shared.server.reset()
    return shared


def test_the_token_says_who_calls(here: Stack) -> None:
    """A token that the provider issued: the call passes, and the server sees whom it names."""
    token = here.provider.token("ops", sub="alice", team_id="t-é")
    assert here.reason(token, "X-MCP-Agent-Session: s-1\r\n") == "allowed"
    (seen,) = here.server.requests
    assert [seen.values(name) for name in IDENTITY] == [
        ["alice"],
        ["ops"],
        ["t-é".encode().decode("latin-1")],
        ["s-1"],
    ]
    assert seen.values("authorization") == [f"Bearer {token}"]
    told = eventually(lambda: [c for c in here.point.calls() if c["subject_team_id"]], "an event")
    event = told[0]
    assert (event["human_id"], event["agent_id"]) == ("alice", "ops")
    assert (event["matched_grant"], event["matched_session"]) == ("alice", "s-1")


def test_what_the_client_says_it_is_counts_for_nothing(here: Stack) -> None:
    """Identity headers of the client neither decide nor arrive, in whatever case."""
    token = here.provider.token("other", sub="bob")
    forged = "X-MCP-Human-ID: alice\r\nx-mcp-AGENT-id: ops\r\nX-MCP-Team-ID: t\r\n"
    answer = here.call(token, forged)
    assert answer.json()["error"]["data"]["reason"] == "no_matching_grant"
    assert here.server.requests == []
    listed = post(
        "/mcp",
        f"Content-Type: application/json\r\nAuthorization: bearer {token}\r\n{forged}",
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
    )
    assert exchange(here.envoy.port, listed).status == 201
    (seen,) = here.server.requests
    assert [seen.values(name) for name in IDENTITY] == [["bob"], ["other"], [], []]


def test_another_ones_session_does_not_count(here: Stack) -> None:
    """The session header names a session; whose it is, the token says."""
    token = here.provider.token("ops", sub="carol")
    here.call(token, "X-MCP-Agent-Session: s-1\r\n")

    def of_carol() -> list[dict[str, object]]:
        return [call for call in here.point.calls() if call["human_id"] == "carol"]

    (event,) = eventually(of_carol, "an event")
    assert "matched_session" not in event


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "OPTIONS"])
def test_every_method_needs_a_token(here: Stack, method: str) -> None:
    """Without one: 401, and where to learn how to sign in."""
    body = b'{"jsonrpc":"2.0","id":1,"method":"initialize"}'
    request = post("/mcp", "Content-Type: application/json\r\n", body)
    if method != "POST":
        request = get("/mcp").replace(b"GET", method.encode(), 1)
    answer = exchange(here.envoy.port, request)
    assert answer.status == 401
    assert answer.values("www-authenticate") == [f"Bearer resource_metadata={METADATA}"]
    assert here.server.requests == []


@pytest.mark.parametrize(
    ("path", "passes"),
    [
        ("/.well-known/oauth-protected-resource", True),
        ("/.well-known/oauth-protected-resource/mcp?x=1", True),
        ("/.well-known/oauth-protected-resources", False),
        ("/.well-known/oauth-protected-resource/..;/mcp", False),
        ("/.well-known/oauth-protected-resource/%2e%2e/mcp", False),
        ("/.well-known/oauth-protected-resource/../../mcp", False),
        ("/.well-known/oauth-authorization-server", False),
        ("/mcp?/.well-known/oauth-protected-resource", False),
        ("//.well-known/oauth-protected-resource", True),  # Envoy merges the slashes
    ],
)
def test_metadata_needs_no_token(here: Stack, path: str, passes: bool) -> None:
    """GET of the server's RFC 9728 metadata passes, as nobody; what only looks like it does not."""
    answer = exchange(here.envoy.port, get(path, "X-MCP-Human-ID: alice\r\n"))
    assert answer.status == (201 if passes else 401)
    assert len(here.server.requests) == passes
    assert not [seen for seen in here.server.requests if seen.values("x-mcp-human-id")]
    if path.endswith("resource"):
        assert exchange(here.envoy.port, post(path)).status in {401, 415}


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ("Authorization: bearer {token}\r\n", "allowed"),
        ("Authorization: BEARER  {token}\r\n", "allowed"),
        ("Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n", "duplicate_header"),
        ("Authorization: Basic {token}\r\n", "missing_bearer_token"),
        ("Authorization: {token}\r\n", "missing_bearer_token"),
        ("Authorization:\r\n", "missing_bearer_token"),
        ("Authorization: Bearer\r\n", "missing_bearer_token"),
        ("Authorization: Basic x,Bearer {token}\r\n", "missing_bearer_token"),
        ("X-Access-Token: {token}\r\n", "missing_bearer_token"),
        ("Cookie: access_token={token}\r\n", "missing_bearer_token"),
        ("Authorization: Bearer {token} x\r\n", "invalid_token"),
        ("Authorization: Bearer {token}.\r\n", "invalid_token"),
    ],
)
def test_where_the_token_stands(here: Stack, headers: str, reason: str) -> None:
    """One Authorization header, scheme Bearer in any case, one token."""
    token = here.provider.token("ops", sub="alice")
    assert here.reason(headers=headers.format(token=token)) == reason


def test_a_bad_token_is_challenged(here: Stack) -> None:
    """401 with error and metadata, a JSON-RPC error that names no part of the token."""
    token = here.provider.sign(here.provider.claims(aud="https://other.example"))
    answer = here.call(token)
    assert answer.status == 401
    assert answer.values("www-authenticate") == [CHALLENGE + METADATA]
    error = answer.json()["error"]
    assert (error["code"], error["data"]["reason"]) == (4010, "invalid_token")
    assert "audience" in error["message"]
    assert answer.json()["id"] == CALL["id"]
    assert here.server.requests == []


def test_no_forgery_passes(here: Stack) -> None:
    """All usual forgeries are refused, and none reaches the server."""
    curve = ECKey.generate_key("P-256", auto_kid=True)
    here.provider.published.append(curve)
    wanted = here.provider.sign(here.provider.claims(), alg="ES256", kid=curve.kid, key=curve)
    eventually(lambda: here.reason(wanted) == "allowed", "the curve is known")
    here.server.reset()
    forged = forged_tokens(here.provider.claims(), here.provider.signing, curve)
    answers = {name: here.reason(token) for name, token in forged.items()}
    here.provider.withdraw(curve)
    # A comma in Authorization is Envoy's sign of two headers.
    assert answers == dict.fromkeys(forged, "invalid_token") | {"the JSON form": "duplicate_header"}
    assert here.server.requests == []


def test_no_token_is_ever_written_down(here: Stack) -> None:
    """Neither events nor logs hold a token, good or bad, nor its signature."""
    good = here.provider.token("ops", sub="alice", sid="find-me")
    bad = here.provider.sign(here.provider.claims(exp=1))
    assert here.reason(good) == "allowed"
    assert here.reason(bad) == "invalid_token"
    eventually(lambda: [c for c in here.point.calls() if c["session_id"] == "find-me"], "its event")
    written = b"".join(here.point.sent) + here.point.log.read_bytes()
    for spool in (here.envoy.folder / "spool").rglob("*"):
        written += spool.read_bytes() if spool.is_file() else b""
    written += (here.envoy.folder / "undecided.jsonl").read_bytes()
    for token in (good, bad):
        assert not [part for part in token.split(".") if part.encode() in written]


def test_operators_see_the_keys(here: Stack) -> None:
    """/config/status, /ready and /metrics tell of the keys."""
    told = here.point.token_keys()
    assert (told["issuer"], told["ready"]) == (here.provider.issuer, True)
    assert here.point.ask("/ready")[0] == 200
    assert f"mcp_gateway_token_keys {told['keys']}.0" in here.point.ask("/metrics")[1]


def test_keys_over_https_and_tls_in_front(tmp_path: Path) -> None:
    """A private authority is named by SSL_CERT_FILE; behind TLS the challenge says https."""
    files = certify(tmp_path)
    settings = {"SSL_CERT_FILE": str(files[0]), "JWKS_ALLOW_LOOPBACK_HTTP": "false"}
    with provider(AUDIENCE, files) as issuer, stack(issuer, 1, **settings) as here:
        token = issuer.sign(issuer.claims())
        eventually(lambda: here.reason(token) == "allowed", "keys are fetched over https")
        answer = here.call(headers="X-Forwarded-Proto: https\r\n")
        (challenge,) = answer.values("www-authenticate")
        assert challenge == f"Bearer resource_metadata={METADATA}".replace("http:", "https:")


def test_keys_rotate_under_load() -> None:
    """The provider publishes a key, signs with it, withdraws the old one: no wrong answer."""
    with provider(AUDIENCE) as issuer, stack(issuer, JWKS_REFRESH_SECONDS="1") as here:
        eventually(lambda: here.point.token_keys()["ready"], "keys are fetched")
        tokens, answers, over = [issuer.token("ops", sub="alice")], [], threading.Event()

        def load() -> None:
            while not over.is_set():
                answers.append(here.reason(tokens[-1]))

        callers = [threading.Thread(target=load) for _ in range(4)]
        for caller in callers:
            caller.start()
        try:
            old = issuer.signing
            new = issuer.publish()
            eventually(lambda: here.point.token_keys()["keys"] == 2, "both keys are known")
            assert here.reason(tokens[0]) == "allowed"
            issuer.signing = new
            tokens.append(issuer.token("ops", sub="alice"))
            count = len(answers)
            eventually(lambda: len(answers) > count + 50, "calls with the new key")
            issuer.withdraw(old)
            eventually(lambda: here.point.token_keys()["keys"] == 1, "the old key is gone")
            count = len(answers)
            eventually(lambda: len(answers) > count + 50, "calls without the old key")
        finally:
            over.set()
            for caller in callers:
                caller.join()
        assert set(answers) == {"allowed"}
        assert here.reason(tokens[0]) == "invalid_token"


def test_an_unknown_key_is_looked_for() -> None:
    """A new key is known a moment later; a flood of unknown ones asks the provider little."""
    with provider(AUDIENCE) as issuer, stack(issuer, JWKS_COOLDOWN_SECONDS="1") as here:
        eventually(lambda: here.point.token_keys()["ready"], "keys are fetched")
        issuer.signing = issuer.publish()
        token = issuer.token("ops", sub="alice")
        eventually(lambda: here.reason(token) == "allowed", "the new key is known")
        before, began = issuer.fetched, time.monotonic()
        for number in range(200):
            assert here.reason(issuer.sign(issuer.claims(), kid=str(number))) == "invalid_token"
        assert issuer.fetched - before <= 2 + (time.monotonic() - began)


def test_a_provider_that_is_away() -> None:
    """Away from the start is an outage, not a denial; away later, the known keys go on."""
    with provider(AUDIENCE) as issuer:
        token = issuer.token("ops", sub="alice")
        issuer.stop()
        with stack(issuer, JWKS_REFRESH_SECONDS="1") as here:
            answer = here.call(token)
            assert answer.status == 503
            assert answer.values("retry-after")
            assert not answer.values("www-authenticate")
            assert answer.json()["error"]["data"]["reason"] == "oauth_provider_unavailable"
            assert here.reason() == "missing_bearer_token"
            assert here.point.ask("/ready")[0] == 503
            issuer.start()
            eventually(lambda: here.reason(token) == "allowed", "the provider is back")
            issuer.stop()
            eventually(lambda: here.point.token_keys()["fault"], "it is away again")
            assert here.reason(token) == "allowed"
            assert here.reason(issuer.sign(issuer.claims())) == "allowed"
            assert here.point.ask("/ready")[0] == 200


def test_keys_grow_too_old() -> None:
    """A provider that stays away beyond the maximal age: an outage again."""
    ages = {"JWKS_REFRESH_SECONDS": "1", "JWKS_MAX_AGE_SECONDS": "2"}
    with provider(AUDIENCE) as issuer, stack(issuer, **ages) as here:
        token = issuer.token("ops", sub="alice")
        eventually(lambda: here.reason(token) == "allowed", "keys are fetched")
        issuer.stop()
        eventually(
            lambda: here.reason(token) == "oauth_provider_unavailable", "the keys are too old"
        )
        assert here.point.ask("/ready")[0] == 503

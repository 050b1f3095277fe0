"""Mode oauth with real MCP clients before a real MCP server."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from clients.modes import MODES, run
from clients.reference import reference_server

from tests.tools.envoy_process import running_sidecar
from tests.tools.oidc_provider import Provider, provider
from tests.tools.point_process import running_point
from tests.tools.waiting import eventually

AUDIENCE = "https://mcp.example/mcp"
ACCESS = """\
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {{name: demo, namespace: home}}
spec: {{auth: {{mode: oauth, issuerURL: "{issuer}", audience: "{audience}"}}}}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {{name: ops, namespace: home}}
spec:
  serverRef: {{name: demo}}
  subject: {{agentID: ops}}
  toolRules: [{{name: echo, decision: allow}}]
"""
ACTIONS = (
    {"action": "connect"},
    {"action": "call_tool", "name": "echo", "arguments": {"text": "hello"}},
    {"action": "call_tool", "name": "list_invoices"},
)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Provider]:
    with provider(AUDIENCE) as running:
        yield running


@pytest.fixture(scope="module")
def url(issuer: Provider) -> Iterator[str]:
    with ExitStack() as opened:
        server = opened.enter_context(reference_server())
        envoy = opened.enter_context(running_sidecar(server.url.removesuffix("/mcp")))
        access = ACCESS.format(issuer=issuer.issuer, audience=AUDIENCE)
        settings = {"JWKS_ALLOW_LOOPBACK_HTTP": "true"}
        point = opened.enter_context(running_point(envoy.folder, access, **settings))
        eventually(lambda: point.token_keys()["ready"], "keys are fetched")
        yield f"{envoy.url}/mcp"


@pytest.mark.parametrize("mode", MODES)
def test_a_client_with_a_token(url: str, issuer: Provider, mode: str) -> None:
    """It connects, calls what its grant allows, and reads why the rest is denied."""
    token = issuer.token("ops")
    answers = run(mode, url, {"Authorization": f"Bearer {token}"}, ACTIONS)
    assert [answer["ok"] for answer in answers] == [True, True, False]
    assert "tool_not_granted" in str(answers[2])


@pytest.mark.parametrize("mode", MODES)
def test_a_client_without_a_token(url: str, mode: str) -> None:
    """It cannot connect."""
    (answer,) = run(mode, url, {"X-MCP-Agent-ID": "ops"}, ACTIONS[:1])
    assert not answer["ok"]

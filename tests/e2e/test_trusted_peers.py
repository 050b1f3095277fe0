"""Header mode with trustedPeers: who may say for whom a call is made."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.tools.envoy_process import RunningEnvoy, running_sidecar
from tests.tools.point_process import running_point
from tests.tools.raw_http import RawResponse, exchange, post
from tests.tools.recording_server import RecordingServer, recording

ACCESS = """\
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {{name: demo, namespace: home}}
spec:
  auth: {{mode: header, trustedPeers: [{peers}]}}
  tools: [{{name: echo, sideEffect: read}}]
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {{name: ops, namespace: home}}
spec: {{serverRef: {{name: demo}}, subject: {{agentID: ops}}}}
"""
CALL = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "echo"}})
IDENTITY = "Content-Type: application/json\r\nX-MCP-Agent-ID: ops\r\n"
# What a peer may write to pass for another one.
FORGED = (
    "",
    "X-Forwarded-For: 10.1.2.3\r\n",
    "X-Forwarded-For: 10.1.2.3, 10.1.2.3\r\n",
    "X-Real-IP: 10.1.2.3\r\n",
    "Forwarded: for=10.1.2.3\r\n",
    "X-Envoy-External-Address: 10.1.2.3\r\n",
)


@contextmanager
def stack(peers: str, hops: int = 0) -> Iterator[tuple[RunningEnvoy, RecordingServer]]:
    with (
        recording() as server,
        running_sidecar(server.url, trusted_hops=hops) as envoy,
        running_point(envoy.folder, ACCESS.format(peers=peers)),
    ):
        yield envoy, server


def call(envoy: RunningEnvoy, headers: str = "") -> RawResponse:
    return exchange(envoy.port, post("/mcp", IDENTITY + headers, CALL.encode()))


def test_a_trusted_peer_says_who_calls() -> None:
    """From an address of the list the identity headers count."""
    with stack("127.0.0.0/8") as (envoy, server):
        assert call(envoy).status == 201
        assert len(server.requests) == 1


@pytest.mark.parametrize("hops", [0, 1], ids=["no proxy in front", "one proxy in front"])
def test_no_header_makes_a_peer_trusted(hops: int) -> None:
    """The address is the connection's own, whatever forwarding headers say."""
    with stack("10.0.0.0/8", hops) as (envoy, server):
        for forged in FORGED:
            answer = call(envoy, forged)
            assert answer.status == 403
            assert answer.json()["error"]["data"]["reason"] == "untrusted_peer"
        assert server.requests == []

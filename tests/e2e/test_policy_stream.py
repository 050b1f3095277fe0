"""The policy stream as callers meet it: a controller, a real Envoy, a decision point behind it."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.tools.envoy_process import RunningEnvoy, running_sidecar
from tests.tools.point_process import RunningPoint, running_point
from tests.tools.raw_http import exchange, post
from tests.tools.recording_server import recording
from tests.tools.scripted_authority import ScriptedAuthority
from tests.tools.scripted_controller import Document, Publisher, ScriptedController
from tests.tools.waiting import SECONDS, eventually

CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "echo"}}
HEADERS = "Content-Type: application/json\r\nX-MCP-Agent-ID: ops\r\n"


def document(**members: object) -> Document:
    grant = {"name": "ops", "namespace": "home", "agent_id": "ops", "max_trust": "high", **members}
    return {
        "schema_version": "v1",
        "server": {"name": "demo", "namespace": "home"},
        "auth": {"mode": "header"},
        "tools": [{"name": "echo", "side_effect": "read"}],
        "grants": [grant],
    }


class Served:
    """A controller in a thread of its own."""

    def __init__(self, authority: ScriptedAuthority, port: int = 0) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._publisher = Publisher(document())
        tls = authority.sign("127.0.0.1")
        self.controller = ScriptedController(self._publisher, port=port, tls=tls)
        self._run(self.controller.__aenter__())

    def publish(self, current: Document) -> None:
        self._run(self._publisher.publish(current))

    def close(self) -> None:
        self._run(self.controller.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)  # type: ignore[arg-type]


@contextmanager
def point(folder: Path, port: int) -> Iterator[RunningPoint]:
    settings = {
        "ACCESS_DIR": "",
        "POLICY_STREAM": f"127.0.0.1:{port}",
        "POLICY_STREAM_TOKEN_FILE": "token",
        "POLICY_STREAM_CA_FILE": "ca.crt",
        "MCP_SERVER_NAME": "demo",
        "MCP_SERVER_NAMESPACE": "home",
    }
    with running_point(folder, "", **settings) as running:
        yield running


def reason(envoy: RunningEnvoy) -> str:
    """Why a call was refused; `allowed` where the server answered."""
    answer = exchange(envoy.port, post("/mcp", HEADERS, json.dumps(CALL).encode()))
    return "allowed" if answer.status == 201 else answer.json()["error"]["data"]["reason"]


def told(running: RunningPoint) -> dict[str, Any]:
    """What the decision point says of itself."""
    status: dict[str, Any] = json.loads(running.ask("/config/status")[1])
    return status


def increments(running: RunningPoint) -> int:
    """How many have come to run."""
    return int(told(running)["stream"]["updates"]["increment"]["success"])


def test_a_revocation_and_a_restart() -> None:
    """A call is allowed, a revocation denies the next one, and a decision point that starts again
    without a controller still denies it."""
    authority = ScriptedAuthority()
    with ExitStack() as opened:
        server = opened.enter_context(recording())
        envoy = opened.enter_context(running_sidecar(server.url))
        (envoy.folder / "token").write_text("the-token")
        (envoy.folder / "ca.crt").write_bytes(authority.pem)
        served = Served(authority)
        try:
            with point(envoy.folder, served.controller.port) as running:
                eventually(lambda: reason(envoy) == "allowed", "the grant counts")
                assert served.controller.sessions[0].token == "the-token"
                served.publish(document(disabled=True))
                eventually(lambda: reason(envoy) == "grant_disabled", "the revocation counts")
                eventually(lambda: increments(running) == 1, "the increment is counted")
                assert (told(running)["stream"]["connected"], told(running)["faults"]) == (True, [])
                assert "mcp_gateway_policy_stream_connected 1.0" in running.ask("/metrics")[1]
        finally:
            served.close()
        with point(envoy.folder, served.controller.port) as running:
            eventually(lambda: reason(envoy) == "grant_disabled", "the last policy counts")
            assert running.ask("/ready")[0] == 200
            faults = eventually(lambda: told(running)["faults"], "it is told that nobody answers")
            assert "cannot be reached" in faults[0]["text"]
            for line in running.log.read_text().splitlines():
                assert json.loads(line)
                assert "the-token" not in line

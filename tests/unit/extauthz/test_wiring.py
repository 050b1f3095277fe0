"""The decision point as a process: starts, decides, follows its policy, drains."""

import asyncio
import json
import os
import signal
import stat
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web

from extauthz.ports import CheckServer
from protos.gen.external_auth_pb2 import CheckRequest
from protos.gen.external_auth_pb2_grpc import AuthorizationStub
from tests.tools.waiting import SECONDS, soon

SERVER = """\
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: demo, namespace: home}
spec: {tools: [{name: echo, sideEffect: read}]}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: ops, namespace: home}
spec:
  serverRef: {name: demo}
  subject: {agentID: ops}
  toolRules: [{name: echo, decision: allow}]
"""
DENY = SERVER.split("---\n")[1].replace("name: ops", "name: stop").replace("allow", "deny")


class Ingest:
    """A real ingest that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.url = ""

    async def __aenter__(self) -> "Ingest":
        app = web.Application()
        app.router.add_post("/events", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/events"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        assert request.headers["x-api-key"] == "the-key"
        self.events += [json.loads(line) for line in (await request.text()).splitlines()]
        return web.json_response({"ok": True}, status=202)


async def spawn(folder: Path, *arguments: str, **environ: str) -> Process:
    everything = {
        "PATH": os.environ["PATH"],
        "ACCESS_DIR": "access",
        "CHECK_ADDRESS": "unix:check.sock",
        "SPOOL_DIR": "spool",
        "METRICS_PORT": "0",
        "PYTHONPATH": str(Path(__file__).parents[3]),
        **environ,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "extauthz",
        *arguments,
        cwd=folder,
        env=everything,
        stderr=PIPE,
        stdout=PIPE,
    )


@asynccontextmanager
async def running(
    folder: Path, ingest_url: str, **environ: str
) -> AsyncIterator[tuple[Process, dict[str, Any]]]:
    """The process, once it says that it runs, with what it says."""
    (folder / "access").mkdir()
    (folder / "access/all.yaml").write_text(SERVER)
    (folder / "key").write_text("the-key\n")
    process = await spawn(
        folder, MCP_SENTINEL_INGEST_URL=ingest_url, MCP_SENTINEL_API_KEY_FILE="key", **environ
    )
    try:
        assert process.stderr
        async with asyncio.timeout(SECONDS):
            while True:
                line = await process.stderr.readline()
                assert line, "it ended before it ran"
                said = json.loads(line)
                if said["message"] == "decision point runs":
                    break
        yield process, said
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def asking(tool: str) -> CheckRequest:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}}
    message = CheckRequest()
    http = message.attributes.request.http
    http.method, http.path, http.raw_body = "POST", "/mcp", json.dumps(body).encode()
    headers = {"content-type": "application/json", "x-mcp-agent-id": "ops"}
    for key, value in headers.items():
        http.header_map.headers.add(key=key, raw_value=value.encode())
    return message


@pytest.mark.parametrize("server", CheckServer)
async def test_lifecycle(
    server: CheckServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It decides over a socket of its own, follows an edit, and loses no event when stopped."""
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    async with (
        Ingest() as ingest,
        running(tmp_path, ingest.url, CHECK_SERVER=server) as (process, said),
    ):
        socket = tmp_path / "check.sock"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        status_url = f"http://127.0.0.1:{said['metrics_port']}/config/status"
        async with grpc.aio.insecure_channel("unix:check.sock") as channel:
            check = AuthorizationStub(channel).Check
            assert (await check(asking("echo"))).HasField("ok_response")
            (tmp_path / "access/deny.yaml").write_text(DENY)

            async def is_denied() -> bool:
                return not (await check(asking("echo"))).HasField("ok_response")

            await soon(is_denied, "the edit counts", every=0.02)
        async with aiohttp.request("GET", status_url) as response:
            status = await response.json()
        assert (status["ready"], status["faults"]) == (True, [])
        assert status["server"]["name"] == "demo"
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(SECONDS):
            assert await process.wait() == 0
    calls = [event["payload"] for event in ingest.events if event["event_type"] == "mcp.request"]
    assert (calls[0]["decision"], calls[-1]["reason"]) == ("allow", "tool_denied")
    assert status["reloads"]["success"] == 2
    sequences = sorted(event["payload"]["sequence"] for event in ingest.events)
    assert sequences == list(range(1, len(ingest.events) + 1))
    assert {event["payload"]["server"] for event in ingest.events} == {"demo"}


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "error: MCP_SENTINEL_INGEST_URL: is not set; set it: "),
        ({"MCP_SENTINEL_INGEST_URL": "x"}, "error: MCP_SENTINEL_INGEST_URL: `x` is not an http"),
    ],
)
async def test_wrong_settings(tmp_path: Path, environ: dict[str, str], message: str) -> None:
    """A wrong setting ends the start with one line and exit code 2."""
    process = await spawn(tmp_path, **environ)
    _, said = await process.communicate()
    assert said.decode().startswith(message)
    assert said.count(b"\n") == 1
    assert process.returncode == 2


async def test_address_that_cannot_be_used(tmp_path: Path) -> None:
    """A socket folder that is not there ends the start, and everything begun is undone."""
    process = await spawn(
        tmp_path, MCP_SENTINEL_INGEST_URL="http://127.0.0.1:1/", CHECK_ADDRESS="unix:no/check.sock"
    )
    _, said = await process.communicate()
    assert "error: CHECK_ADDRESS: `unix:no/check.sock` cannot be bound" in said.decode()
    assert process.returncode == 2


async def test_print_config(tmp_path: Path) -> None:
    """--print-config shows what differs from the defaults, secrets hidden."""
    process = await spawn(
        tmp_path,
        "--print-config",
        MCP_SENTINEL_INGEST_URL="http://127.0.0.1:1/events",
        ANALYTICS_API_KEY="hunter2",
    )
    said, _ = await process.communicate()
    assert said.decode().splitlines() == [
        "MCP_SENTINEL_INGEST_URL=http://127.0.0.1:1/events",
        "MCP_SENTINEL_API_KEY=(hidden)",
        "SPOOL_DIR=spool",
        "ACCESS_DIR=access",
        "CHECK_ADDRESS=unix:check.sock",
        "METRICS_PORT=0",
    ]

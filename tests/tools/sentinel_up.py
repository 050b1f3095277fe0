"""A real `sentinel up` for a test: started in a folder, asked, stopped by its process id."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from backend.cli.guard import RUN_VARIABLE, members
from backend.cli.ports import Ports
from tests.tools.ports import free_ports
from tests.tools.waiting import SECONDS, first_line

SENTINEL = [sys.executable, "-c", "from backend.cli.main import sentinel; sentinel()"]
MODERN = "2026-07-28"


def free_base() -> int:
    """A port base whose ports are all free."""
    highest = max(Ports(0).needed(starts_upstream=True).values())
    return free_ports(highest + 1)[0]


def sentinel(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [*SENTINEL, *words], cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False
    )


class Up:
    """A running `sentinel up`."""

    def __init__(self, state: Path, *more: str, environ: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it serves.

        Args:
            more: further words of its command line; a later `--port-base` counts.
            environ: beside the caller's own environment.
        """
        self.state, self.log = state, state.with_name(f"{state.name}.log")
        words = ["up", "--state", str(state), "--port-base", str(free_base()), "--json", *more]
        self.process = subprocess.Popen(
            [*SENTINEL, *words],
            stdout=subprocess.PIPE,
            stderr=self.log.open("ab"),
            text=True,
            env={**os.environ, **(environ or {})},
        )
        told = first_line(self.process, "`sentinel up` serves")
        assert told, self.log.read_text()
        self.endpoints: dict[str, str] = json.loads(told)["endpoints"]
        record = json.loads((state / "state.json").read_text())
        self.pids = [component["pid"] for component in record["components"]]
        self.upstream_pid = next(
            (each["pid"] for each in record["components"] if each["name"] == "upstream"), 0
        )
        self.token = psutil.Process(self.pids[0]).environ()[RUN_VARIABLE]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return sentinel(*words, "--state", str(self.state))

    def status(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.command("status", "--json").stdout)
        return told

    def events(self, *filters: str) -> list[dict[str, Any]]:
        """The newest 1,000 that the filters leave."""
        words = ("events", "--json", "--limit", "1000", *filters)
        lines = self.command(*words).stdout.splitlines()
        return [json.loads(line) for line in lines]

    def calls(self, tool: str) -> list[dict[str, Any]]:
        """The payloads of this tool's events."""
        payloads = [event["payload"] for event in self.events()]
        return [payload for payload in payloads if payload.get("tool_name") == tool]

    def call(self, tool: str, agent: str, **arguments: object) -> dict[str, Any]:
        """One tools/call of the modern era: the JSON-RPC answer."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": tool, "arguments": arguments, "_meta": meta}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": "tools/call",
            "Mcp-Name": tool,
            "X-MCP-Agent-ID": agent,
        }
        request = urllib.request.Request(
            self.endpoints["mcp"], json.dumps(body).encode(), headers, method="POST"
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            answer: dict[str, Any] = json.loads(response.read())
        return answer

    def reason(self, tool: str, agent: str) -> str:
        """Why the call was denied; `allowed` where it was not."""
        error = self.call(tool, agent, text="x").get("error")
        return str(error["data"]["reason"]) if error else "allowed"

    def upstream_children(self) -> list[psutil.Process]:
        """What the user's command has started."""
        return psutil.Process(self.upstream_pid).children(recursive=True)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(timeout=SECONDS)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal to the supervisor alone; its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def is_gone(self) -> bool:
        return not list(members(self.token))

"""A decision point behind real Envoy, between a server that counts and an ingest that keeps.

All but Envoy and the decision point runs in the test's own event loop.
"""

import asyncio
import json
import os
import resource
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from extauthz.emitter.mark import read_mark
from tests.tools.envoy_process import RunningEnvoy, running_sidecar
from tests.tools.waiting import SECONDS, soon

ROOT = Path(__file__).parents[2]
ALLOWED, DENIED = "echo", "wipe"
_POLICY = """\
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: demo, namespace: home}
spec:
  policy: {mode: %s}
  tools: [{name: echo, sideEffect: read}, {name: wipe, sideEffect: destructive}]
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: ops, namespace: home}
spec:
  serverRef: {name: demo}
  subject: {agentID: ops}
  toolRules: [{name: echo, decision: allow}, {name: wipe, decision: deny}]
"""


@dataclass
class Server:
    """The governed server. `seen`: Envoy's request id of each call that reached it."""

    seen: dict[int, str] = field(default_factory=dict)
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        number = int(request.headers["x-call"])
        assert number not in self.seen
        self.seen[number] = request.headers["x-request-id"]
        return web.json_response({"jsonrpc": "2.0", "id": 1, "result": {"content": []}})


@dataclass
class Ingest:
    """What ingest was sent, with an answer to choose."""

    events: list[dict[str, Any]] = field(default_factory=list)
    status: int = 202
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        lines = (await request.read()).splitlines()
        if self.status == 202:
            self.events += map(json.loads, lines)
        return web.json_response({}, status=self.status)

    def once(self) -> dict[str, dict[str, Any]]:
        """Payloads by event id, duplicates dropped as the store does: those marked alone."""
        found: dict[str, dict[str, Any]] = {}
        for event in self.events:
            if event["event_id"] in found:
                assert event.get("resent") is True, "sent twice, and not marked so"
            found.setdefault(event["event_id"], event["payload"])
        return found

    def of(self, event_type: str) -> list[dict[str, Any]]:
        return [event["payload"] for event in self.events if event["event_type"] == event_type]


@dataclass(frozen=True)
class Answer:
    """What a client got: HTTP status, and of a denial reason and decision id."""

    status: int
    reason: str = ""
    decision_id: str = ""


@dataclass
class Point:
    """The decision point as a process, and what stands around it."""

    envoy: RunningEnvoy
    server: Server
    ingest: Ingest
    environ: dict[str, str]
    answers: dict[int, Answer] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    process: asyncio.subprocess.Process | None = None
    _numbers: int = 0

    async def start(self) -> None:
        """Start the process; Envoy can ask when this returns."""
        with (self.envoy.folder / "point.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "extauthz"),
                cwd=self.envoy.folder,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **self.environ},
                stderr=log,
                stdout=log,
            )
        async with aiohttp.ClientSession() as session:

            async def decides() -> bool:
                assert self.process
                assert self.process.returncode is None, self.log()
                return (await self.call(session, ALLOWED)).status != 503

            await soon(decides, "the decision point decides", every=0.05)

    def log(self) -> str:
        return (self.envoy.folder / "point.log").read_text()[-4000:]

    async def kill(self) -> tuple[str, int]:
        """Kill -9; the gateway_start that died, and how many sequences it took."""
        assert self.process
        assert self.process.returncode is None, self.log()
        self.process.kill()
        await self.process.wait()
        return self._taken()

    async def stop(self) -> tuple[str, int]:
        """End it as an orchestrator does; as `kill`."""
        assert self.process
        self.process.terminate()
        async with asyncio.timeout(SECONDS):
            assert await self.process.wait() == 0, self.log()
        return self._taken()

    def _taken(self) -> tuple[str, int]:
        reading = read_mark(self.envoy.folder / "spool/mark")
        assert reading
        return reading.gateway_start, reading.next_sequence - 1

    async def all_told(self) -> None:
        """Wait until ingest has every event so far, or a gap about it.

        One that ends sooner leaves the rest in its spool, which is as good, but not counted here.
        """

        def untold() -> set[int]:
            told = {payload["sequence"] for payload in self.ingest.once().values()}
            for gap in self.ingest.of("audit.gap"):
                told.update(range(gap["first"], gap["last"] + 1))
            return set(range(1, self._taken()[1] + 1)) - told

        await soon(lambda: not untold(), "all is told", every=0.05)

    def limit_files(self, most: int) -> None:
        """Let no file of the process grow beyond `most` bytes: 0 is a full disk, -1 an empty."""
        assert self.process
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (most, hard))

    async def call(
        self, session: aiohttp.ClientSession, tool: str, method: str = "tools/call"
    ) -> Answer:
        """Make one call through Envoy and keep its answer."""
        self._numbers += 1
        number = self._numbers
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": tool}}
        headers = {"x-call": str(number), "x-mcp-agent-id": "ops"}
        url = self.envoy.url + "/mcp"
        async with session.post(url, json=body, headers=headers) as response:
            told = await response.json(content_type=None)
        data = told.get("error", {}).get("data", {})
        answer = Answer(response.status, data.get("reason", ""), data.get("decision_id", ""))
        self.answers[number] = answer
        self.counts[answer.status] += 1
        return answer

    @asynccontextmanager
    async def load(self, connections: int) -> AsyncIterator[None]:
        """Call as fast as answers come, on so many connections."""
        stop = False

        async def client(session: aiohttp.ClientSession) -> None:
            while not stop:
                answer = await self.call(session, (ALLOWED, DENIED)[self._numbers % 2])
                if answer.status == 503:
                    await asyncio.sleep(0.01)

        connector = aiohttp.TCPConnector(limit=connections)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            asyncio.TaskGroup() as all,
        ):
            for _ in range(connections):
                all.create_task(client(session))
            try:
                yield
            finally:
                stop = True

    def check_accounts(self, taken: dict[str, int]) -> dict[str, int]:
        """Prove that events and gaps make up each sequence of each start, and nothing else.

        Returns:
            Of each start, how many a gap tells of that ingest does not have.
        """
        received: dict[str, set[int]] = {start: set() for start in taken}
        told: dict[str, set[int]] = {start: set() for start in taken}
        for payload in self.ingest.once().values():
            assert payload["sequence"] not in received[payload["gateway_start"]]
            received[payload["gateway_start"]].add(payload["sequence"])
        for gap in self.ingest.of("audit.gap"):
            assert gap["count"] == gap["last"] - gap["first"] + 1
            told[gap["lost_gateway_start"]].update(range(gap["first"], gap["last"] + 1))
        for start, count in taken.items():
            assert received[start] | told[start] == set(range(1, count + 1))
        return {start: len(told[start] - received[start]) for start in taken}

    def check_answers(self) -> list[int]:
        """Prove that no call passed undecided, and that none was denied and passed.

        Returns:
            Calls that were decided, by the answer or by having reached the server, and of
            which ingest has no event.
        """
        by_id = self.ingest.once()
        by_request = {p["request_id"]: p for p in by_id.values() if "decision" in p}
        missing = []
        for number, answer in self.answers.items():
            reached = number in self.server.seen
            assert reached == (answer.status == 200 and not answer.reason), (number, answer)
            if reached:
                event = by_request.get(self.server.seen[number])
            elif answer.status == 503:  # an outage: nobody claims that it was recorded
                continue
            else:
                event = by_id.get(answer.decision_id)
            if event is None:
                missing.append(number)
            else:
                assert event["decision"] == ("allow" if reached else "deny")
        return missing


@asynccontextmanager
async def decision_point(mode: str = "allow-list", **environ: str) -> AsyncIterator[Point]:
    """Everything but the process itself, which `Point.start` starts.

    Args:
        mode: of the policy.
        environ: settings, beside those that the place needs.
    """
    server, ingest = Server(), Ingest()
    async with AsyncExitStack() as stack:
        server.url = await _serve(stack, "/mcp", server)
        ingest.url = await _serve(stack, "/events", ingest) + "/events"
        envoy = stack.enter_context(running_sidecar(server.url))
        (envoy.folder / "access").mkdir()
        (envoy.folder / "access/all.yaml").write_text(_POLICY % mode)
        settings = {
            "ACCESS_DIR": "access",
            "CHECK_ADDRESS": "unix:check.sock",
            "SPOOL_DIR": "spool",
            "METRICS_PORT": "0",
            "MCP_SENTINEL_INGEST_URL": ingest.url,
            **environ,
        }
        point = Point(envoy, server, ingest, settings)
        try:
            yield point
        finally:
            if point.process and point.process.returncode is None:
                point.process.kill()
                await point.process.wait()
            if kept := os.environ.get("CHAOS_KEEP"):
                shutil.copytree(
                    envoy.folder, kept, dirs_exist_ok=True, ignore_dangling_symlinks=True
                )


async def _serve(stack: AsyncExitStack, path: str, unit: Server | Ingest) -> str:
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post(path, unit.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"

"""The whole governed stack under test: started, loaded with calls, its audit trail read."""

import asyncio
import json
import subprocess
import sys
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.tools.sentinel_up import MODERN, Up
from tests.tools.waiting import SECONDS, soon

ALLOWED = "allowed"
WORKERS = 8

# A process of its own: chDB opens one path in the life of a process.
_READ_STORE = """
import sys
import clickhouse_connect
client = clickhouse_connect.get_client(dsn=f"chdb://{sys.argv[1]}", database="mcp")
query = "SELECT event_id, event_type, trace_id, payload FROM events ORDER BY event_time, event_id"
import json
for event_id, event_type, trace_id, payload in client.query(query).result_rows:
    event = {"event_id": str(event_id), "event_type": event_type, "trace_id": trace_id}
    print(json.dumps(event | {"payload": json.loads(payload)}))
"""


@contextmanager
def started(state: Path, *more: str) -> Iterator[Up]:
    """`sentinel up` on a state folder; stopped at the end where the test has not done it."""
    up = Up(state, *more)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.stop()


@contextmanager
def governed(folder: Path, *more: str, loads: Sequence["Load"] = ()) -> Iterator[Up]:
    """`sentinel up` on a new state in `folder`, checked at the end.

    It must stop well, its trail must be whole and hold what `loads` were answered.
    """
    with started(folder / "state", *more) as up:
        yield up
    assert up.process.returncode == 0, up.log.read_text()
    assert up.is_gone()
    events = stored(up.state)
    assert_whole(events)
    for each in loads:
        assert_audited(each.answers, events)


def ask(up: Up, path: str) -> Any:
    """What the api answers; quicker than a command of its own."""
    key = (up.state / "admin.key").read_text().strip()
    request = urllib.request.Request(up.endpoints["api"] + path, headers={"x-api-key": key})
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        return json.load(response)


def recent(up: Up) -> list[dict[str, Any]]:
    """The newest events, at most 1,000."""
    events: list[dict[str, Any]] = ask(up, "/api/events?limit=1000")["events"]
    return events


def stored(state: Path) -> list[dict[str, Any]]:
    """Every event in the store of a stack that has stopped, in the order of time."""
    words = [sys.executable, "-c", _READ_STORE, str(state / "store")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_whole(events: Sequence[dict[str, Any]]) -> None:
    """No event twice, and in each start's sequence no hole."""
    ids = [event["event_id"] for event in events]
    assert len(ids) == len(set(ids))
    starts: dict[str, list[int]] = defaultdict(list)
    for event in events:
        if start := event["payload"].get("gateway_start"):  # the backend's own are not numbered
            starts[start].append(event["payload"]["sequence"])
    for sequences in starts.values():
        assert sorted(sequences) == list(range(1, len(sequences) + 1))
    assert not [event for event in events if event["event_type"] == "audit.gap"]


def traceparent(trace_id: str) -> str:
    """The header that puts `trace_id` on the events of a request."""
    return f"00-{trace_id}-{'1' * 16}-01"


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer to a call.

    Args:
        reason: why it was denied, or `allowed`.
        decision_id: of a denial.
        began, ended: the load's stage before and after the call.
    """

    trace_id: str
    status: int
    reason: str
    decision_id: str
    began: int
    ended: int


@dataclass(slots=True)
class Load:
    """Calls of one tool by one agent, `WORKERS` in flight, on connections that are kept alive.

    Args:
        stage: counted up by the test when what it expects changes.
        sent: trace ids of all calls begun.
        cut: why a worker ended; nothing cuts a call while the stack runs.
    """

    url: str
    agent: str
    tool: str = "echo"
    stage: int = 0
    sent: set[str] = field(default_factory=set)
    answers: list[Answered] = field(default_factory=list)
    cut: list[aiohttp.ClientError] = field(default_factory=list)
    is_over: bool = False

    async def work(self, session: aiohttp.ClientSession) -> None:
        """Call until the load is over, or the connection is cut."""
        while not self.is_over:
            try:
                self.answers.append(await self._call(session))
            except aiohttp.ClientError as error:
                self.cut.append(error)
                return

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Go on with the load until `holds`; every worker must be at work."""
        await soon(lambda: bool(self.cut) or holds(), what)
        assert not self.cut, self.cut

    async def all_cut(self) -> None:
        """Go on until every worker's connection was cut."""
        await soon(lambda: len(self.cut) == WORKERS, "every connection is cut")

    async def answered(self, count: int) -> None:
        """Go on until so many more calls have begun and been answered in this stage."""
        stage = self.stage
        await self.until(
            lambda: sum(answer.began == stage for answer in self.answers) >= count,
            f"{count} answers",
        )

    async def _call(self, session: aiohttp.ClientSession) -> Answered:
        trace_id, began = uuid.uuid4().hex, self.stage
        self.sent.add(trace_id)
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": self.tool, "arguments": {"text": "x"}, "_meta": meta}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": "tools/call",
            "Mcp-Name": self.tool,
            "X-MCP-Agent-ID": self.agent,
            "traceparent": traceparent(trace_id),
        }
        async with session.post(self.url, json=body, headers=headers) as response:
            raw = await response.read()
        data = {"reason": f"HTTP {response.status}", "decision_id": ""}
        if response.status == 200:
            error = json.loads(raw).get("error")
            data = error["data"] if error else {"reason": ALLOWED, "decision_id": ""}
        return Answered(
            trace_id, response.status, data["reason"], data["decision_id"], began, self.stage
        )


@asynccontextmanager
async def load(up: Up, agent: str) -> AsyncIterator[Load]:
    """Calls of `agent` to `up` until the block ends and all are answered."""
    running = Load(up.endpoints["mcp"], agent)
    async with aiohttp.ClientSession() as session:
        workers: list[Awaitable[None]] = [
            asyncio.create_task(running.work(session)) for _ in range(WORKERS)
        ]
        try:
            yield running
        finally:
            running.is_over = True
            await asyncio.gather(*workers)


def calls_by_trace(events: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The payloads of calls, by the trace id of the request."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event["event_type"] == "mcp.request":
            found[event.get("trace_id", "")].append(event["payload"])
    return found


def assert_audited(answers: Sequence[Answered], events: Sequence[dict[str, Any]]) -> None:
    """Each answered call stands in the trail once, decided as its caller was told."""
    trail = calls_by_trace(events)
    for answer in answers:
        (payload,) = trail[answer.trace_id]
        assert payload["reason"] == answer.reason
        assert answer.decision_id in {"", payload["decision_id"]}

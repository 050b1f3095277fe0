"""Calls through Envoy while things break: who was told what, and who was refused."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from extauthz.emitter.mark import read_mark
from tests.tools.sentinel_up import MODERN
from tests.tools.stack import ALLOWED, traceparent
from tests.tools.waiting import soon

ALLOWED_TOOL, DENIED_TOOL, AGENT = "echo", "refund_invoice", "ops-agent"
WORKERS = 4
PAUSE_SECONDS = 0.02  # of a worker, between two calls


@dataclass(frozen=True, slots=True)
class Answer:
    """A call that was decided, as its caller was told.

    Args:
        reason: why it was denied, or `allowed`.
        decision_id: of a denial; empty where the call passed.
        began, ended: seconds of the monotonic clock.
    """

    trace_id: str
    reason: str
    decision_id: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call without a decision, or one that could not be recorded.

    Args:
        why: status and reason, or what became of the connection.
    """

    why: str
    began: float
    ended: float


@dataclass
class Gateway:
    """One sidecar and the calls to it.

    Args:
        url: of the governed server.
        durable: its AUDIT_MODE.
        spool: its SPOOL_DIR.
        starts: of its decision points that have ended, in order: how many sequences each took.
        outages: (from, until) in which calls may be refused; still open ones end in infinity.
    """

    name: str
    url: str
    durable: bool
    spool: Path
    starts: dict[str, int] = field(default_factory=dict)
    outages: list[list[float]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    is_over: bool = False

    def note_start(self) -> None:
        """Remember how far the decision point came that has just ended."""
        if reading := read_mark(self.spool / "mark"):
            self.starts[reading.gateway_start] = reading.next_sequence - 1

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """The decision point is meant to be away; at the end calls must be decided again."""
        window = [time.monotonic(), float("inf")]
        self.outages.append(window)
        yield
        await self.decided(WORKERS)
        window[1] = time.monotonic()

    async def decided(self, count: int) -> None:
        """Wait until so many calls that begin from now on are decided."""
        now = time.monotonic()
        await soon(
            lambda: sum(a.began >= now for a in self.answers[-count * 4 :]) >= count,
            f"{count} decisions of {self.name}; last refused: {self.refusals[-3:]}",
        )

    def blocked(self) -> list[Refusal]:
        """Calls that were refused although nothing was done to their decision point."""
        return [
            refusal
            for refusal in self.refusals
            if not any(
                refusal.began <= until and refusal.ended >= since for since, until in self.outages
            )
        ]

    async def work(self, session: aiohttp.ClientSession) -> None:
        """Call until it is over, an allowed and a denied tool in turn."""
        turn = 0
        while not self.is_over:
            turn += 1
            began = time.monotonic()
            trace_id = uuid.uuid4().hex
            tool = (ALLOWED_TOOL, DENIED_TOOL)[turn % 2]
            try:
                reason, decision_id = await _call(session, self.url, tool, trace_id)
                why = "" if reason == ALLOWED or decision_id else reason
            except (aiohttp.ClientError, TimeoutError) as error:
                why = type(error).__name__
            if why:
                self.refusals.append(Refusal(why, began, time.monotonic()))
                await asyncio.sleep(PAUSE_SECONDS * 5)
                continue
            self.answers.append(Answer(trace_id, reason, decision_id, began, time.monotonic()))
            await asyncio.sleep(PAUSE_SECONDS)


async def _call(
    session: aiohttp.ClientSession, url: str, tool: str, trace_id: str
) -> tuple[str, str]:
    """Reason and decision id; an answer that is no decision has no id."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": {"text": "x"}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
        "X-MCP-Agent-ID": AGENT,
        "traceparent": traceparent(trace_id),
    }
    async with session.post(url, json=body, headers=headers) as response:
        raw = await response.read()
    if response.status != 200:
        return f"HTTP {response.status} {raw[:200].decode(errors='replace')}", ""
    error = json.loads(raw).get("error")
    return (error["data"]["reason"], error["data"]["decision_id"]) if error else (ALLOWED, "")


@asynccontextmanager
async def calling(gateways: list[Gateway]) -> AsyncIterator[None]:
    """Calls to all gateways, until the block ends and every call is answered."""
    async with AsyncExitStack() as stack:
        timeout = aiohttp.ClientTimeout(total=30)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        workers = [
            asyncio.create_task(gateway.work(session))
            for gateway in gateways
            for _ in range(WORKERS)
        ]
        try:
            yield
        finally:
            for gateway in gateways:
                gateway.is_over = True
            await asyncio.gather(*workers)

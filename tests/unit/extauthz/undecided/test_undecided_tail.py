"""The undecided log followed: a real file, a real ingest, ends of every kind."""

import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from extauthz.core.decision import Decision, Effect, PolicyFacts
from extauthz.core.errors import Invalid
from extauthz.core.events import Asked, Decided, Outcome
from extauthz.core.reasons import Reason
from extauthz.emitter import EmitterOptions
from extauthz.undecided import OpenCalls, Tail
from tests.tools.waiting import soon

FACTS = PolicyFacts(server="demo", namespace="home", cluster="c", team_id="t")
TRACE = "a" * 32
LINE = {
    "time": "2026-11-22T18:39:12.664Z",
    "method": "POST",
    "path": "/mcp",
    "status": 413,
    "flags": "-",
    "details": "request_payload_too_large",
    "request_id": "r-0",
    "bytes_in": 4194305,
    "bytes_out": 204,
    "duration_ms": 7,
    "peer": "10.0.0.9",
    "protocol": "HTTP/1.1",
    "traceparent": f"00-{TRACE}-{'b' * 16}-01",
}


class Ingest:
    """A real ingest. `status` is what it answers; `poison` is refused with 400."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.status, self.poison, self.asked, self.url = 202, "", 0, ""

    async def take(self, request: web.Request) -> web.Response:
        self.asked += 1
        text = await request.text()
        if self.poison and self.poison in text:
            return web.Response(status=400)
        if self.status == 202:
            self.events += map(json.loads, text.splitlines())
        return web.Response(status=self.status)

    @property
    def stored(self) -> dict[str, dict[str, Any]]:
        """As the store has it: copies that are marked as resent are dropped."""
        kept: dict[str, dict[str, Any]] = {}
        for event in self.events:
            assert event.get("resent") or event["event_id"] not in kept
            kept.setdefault(event["event_id"], event)
        return kept

    def payloads(self, event_type: str = "mcp.request") -> list[dict[str, Any]]:
        return [e["payload"] for e in self.stored.values() if e["event_type"] == event_type]


class Calls:
    """An audit that keeps what it gets."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[str, int]] = []
        self.open: dict[str, Decided] = {}

    def record(self, decided: Sequence[Decided]) -> list[Decision]:
        found = []
        for asked, decision in decided:
            named = Decision(decision.effect, decision.reason, FACTS, id=f"d-{asked.request_id}")
            self.open[named.id] = asked, named
            found.append(named)
        return found

    def outcome(self, decision_id: str, outcome: Outcome) -> Decided | None:
        self.outcomes.append((decision_id, outcome.status))
        return self.open.pop(decision_id, None)


@pytest.fixture
async def ingest() -> AsyncIterator[Ingest]:
    taking = Ingest()
    app = web.Application()
    app.router.add_post("/events", taking.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    taking.url = f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    yield taking
    await runner.cleanup()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "undecided.jsonl"


def write(log: Path, *numbers: int, end: str = "\n", **changes: object) -> None:
    """Append lines as Envoy does, with request ids r-N."""
    lines = (json.dumps(LINE | {"request_id": f"r-{n}"} | changes) + end for n in numbers)
    with log.open("a") as file:
        file.write("".join(lines))


def tail_of(
    path: Path, ingest: Ingest, calls: OpenCalls | None = None, most: int = 1 << 26
) -> Tail:
    options = EmitterOptions(
        ingest_url=ingest.url,
        spool_folder=path.parent,
        gateway="g",
        retry_max_seconds=0.05,
    )
    return Tail(
        path,
        most,
        options,
        facts=lambda: FACTS,
        calls=calls or OpenCalls(Calls(), 100),
        clock=time.time,
    )


@asynccontextmanager
async def following(
    path: Path, ingest: Ingest, calls: OpenCalls | None = None, most: int = 1 << 26
) -> AsyncIterator[Tail]:
    tail = tail_of(path, ingest, calls, most)
    await tail.start()
    try:
        yield tail
    finally:
        await tail.stop(5)


def assert_countable(ingest: Ingest) -> None:
    """In each log, sequences have no holes but those that a gap names."""
    logs: dict[str, set[int]] = {}
    for event in ingest.stored.values():
        payload = event["payload"]
        logs.setdefault(payload["gateway_start"], set()).add(payload["sequence"])
    for gap in ingest.payloads("audit.gap"):
        if gap["last"]:
            logs[gap["lost_gateway_start"]] |= set(range(gap["first"], gap["last"] + 1))
    for sequences in logs.values():
        assert sequences == set(range(1, len(sequences) + 1))


async def test_one_line_is_one_event(path: Path, ingest: Ingest) -> None:
    """With all that Envoy knew, and nothing that was not decided."""
    write(path, 1, path="/mcp?token=hush")
    async with following(path, ingest) as tail:
        await soon(lambda: ingest.events)
        await soon(lambda: tail.sent == {"request_too_large": 1})
    (event,) = ingest.events
    payload = event["payload"]
    assert payload == {
        "server": "demo",
        "namespace": "home",
        "cluster": "c",
        "team_id": "t",
        "decision": "deny",
        "reason": "request_too_large",
        "undecided": True,
        "request_id": "r-1",
        "method": "POST",
        "path": "/mcp",
        "protocol": "HTTP/1.1",
        "peer": "10.0.0.9",
        "response_details": "request_payload_too_large",
        "status": 413,
        "latency_ms": 7,
        "bytes_in": 4194305,
        "bytes_out": 204,
        "response_flags": "",
        "gateway": "g",
        "gateway_start": payload["gateway_start"],
        "sequence": 1,
    }
    assert (event["timestamp"], event["trace_id"]) == (LINE["time"], TRACE)
    assert (event["event_type"], event["source"]) == ("mcp.request", "mcp-proxy")
    for name in (event["event_id"], payload["gateway_start"]):
        assert UUID(name).version == 7
        assert UUID(name).int >> 80 == 1795372752664


async def test_an_unreadable_line_is_an_event(path: Path, ingest: Ingest) -> None:
    """Torn, foreign or without a time: it counts, and says that it could not be read."""
    write(path, 1)
    with path.open("ab") as file:
        file.write(
            b'{"time":"20\n\xff\x00\n[1]\n"x"\n{"time":7}\n{"time":"1960-01-01T00:00:00Z"}\n'
        )
    write(path, 2)
    async with following(path, ingest):
        await soon(lambda: len(ingest.events) == 8)
    reasons = [(p["reason"], p.get("unreadable", False)) for p in ingest.payloads()]
    assert reasons[1:-1] == [("gateway_error", True)] * 6
    assert {event["timestamp"] for event in ingest.events} == {LINE["time"]}
    assert_countable(ingest)


async def test_it_goes_on_where_it_stopped(path: Path, ingest: Ingest) -> None:
    """A restart sends what came meanwhile, and nothing twice."""
    write(path, *range(3))
    async with following(path, ingest):
        await soon(lambda: len(ingest.events) == 3)
    write(path, *range(3, 5))
    async with following(path, ingest):
        await soon(lambda: len(ingest.events) == 5)
        write(path, 5)
        await soon(lambda: len(ingest.events) == 6)
    assert [p["request_id"] for p in ingest.payloads()] == [f"r-{n}" for n in range(6)]
    assert [e.get("resent", False) for e in ingest.events] == [True] * 5 + [False]
    assert_countable(ingest)


async def test_a_lost_answer_makes_no_second_event(path: Path, ingest: Ingest) -> None:
    """Without its position it offers all again: the same ids, marked as resent."""
    write(path, *range(300))
    async with following(path, ingest):
        await soon(lambda: len(ingest.events) == 300)
    (path.parent / "undecided.position").unlink()
    async with following(path, ingest):
        await soon(lambda: len(ingest.events) == 600)
    assert len(ingest.stored) == 300
    assert_countable(ingest)


async def test_stop_sends_what_is_there(path: Path, ingest: Ingest) -> None:
    """What Envoy wrote last before a drain goes out with it."""
    async with following(path, ingest):
        write(path, *range(400))
    assert len(ingest.events) == 400


async def test_a_refused_event_is_a_gap(path: Path, ingest: Ingest) -> None:
    """The good ones arrive, the refused one is told of; a refused gap does not spin."""
    ingest.poison = '"r-2"'
    write(path, *range(4))
    async with following(path, ingest) as tail:
        await soon(lambda: ingest.payloads("audit.gap"))
        (gap,) = ingest.payloads("audit.gap")
        assert (gap["first"], gap["last"], gap["count"], gap["cause"]) == (3, 3, 1, "refused")
        ingest.poison = "audit.gap"
        write(path, 4)
        await soon(lambda: len(ingest.payloads()) == 4)
        assert tail.dropped == {"refused": 1}
    assert_countable(ingest)


async def test_a_refused_gap_does_not_spin(path: Path, ingest: Ingest) -> None:
    """Where ingest refuses all there is, it is asked about each but once."""
    ingest.poison = "payload"
    write(path, 1)
    async with following(path, ingest) as tail:
        await soon(lambda: ingest.asked == 2)
        ingest.poison = ""
        write(path, 2)
        await soon(lambda: ingest.events)
        assert tail.dropped == {"refused": 1}
    assert ingest.asked == 3


async def test_the_oldest_are_dropped_when_ingest_is_away(path: Path, ingest: Ingest) -> None:
    """Beyond the bound: counted, told as one gap, across a restart too; the newest are kept."""
    ingest.status = 503
    async with following(path, ingest, most=200_000) as tail:
        for round_ in range(4):
            write(path, *range(round_ * 1000, round_ * 1000 + 1000))
            before = tail.dropped.total()
            await soon(lambda: tail.dropped.total() > before)  # noqa: B023
    ingest.status = 202
    async with following(path, ingest, most=200_000):
        await soon(lambda: ingest.payloads() and ingest.payloads()[-1]["request_id"] == "r-3999")
    (gap,) = ingest.payloads("audit.gap")
    assert gap["cause"] == "undecided_overflow"
    assert gap["count"] + len(ingest.payloads()) == 4000
    assert_countable(ingest)


async def test_a_cut_file_is_told(path: Path, ingest: Ingest) -> None:
    """The gap has no extent, for nobody knows what stood there; the new lines come."""
    write(path, 1, 2)
    async with following(path, ingest) as tail:
        await soon(lambda: len(ingest.events) == 2)
        os.truncate(path, 0)
        await soon(lambda: ingest.payloads("audit.gap"))
        write(path, 3)
        await soon(lambda: len(ingest.payloads()) == 3)
        assert tail.dropped == {"undecided_replaced": 1}
    (gap,) = ingest.payloads("audit.gap")
    first = ingest.payloads()[0]
    assert gap["lost_gateway_start"] == first["gateway_start"] != gap["gateway_start"]
    assert (gap["count"], gap["cause"]) == (0, "undecided_replaced")
    assert_countable(ingest)


async def test_a_renamed_file_loses_nothing(path: Path, ingest: Ingest) -> None:
    """Rotation from outside is no gap."""
    async with following(path, ingest):
        write(path, 1)
        await soon(lambda: len(ingest.events) == 1)
        moved = path.rename(path.with_suffix(".1"))
        write(moved, 2)
        write(path, 3)
        await soon(lambda: len(ingest.events) == 3)
    assert [p["request_id"] for p in ingest.payloads()] == ["r-1", "r-2", "r-3"]
    assert_countable(ingest)


async def test_a_decided_call_has_one_event(path: Path, ingest: Ingest) -> None:
    """A line about a call that was decided is its outcome, once, though ingest is away."""
    calls = Calls()
    audit = OpenCalls(calls, 2)
    decision = Decision(Effect.ALLOW, Reason.ALLOWED, FACTS)
    for number in (1, 2, 3):  # the first is forgotten: two are kept
        audit.record([(Asked("POST", "/mcp", f"r-{number}"), decision)])
    audit.outcome("d-r-3", Outcome(200, 1, 1, 1))
    ingest.status = 503
    async with following(path, ingest, audit, most=20_000) as tail:
        write(path, 1, 2, 3, status=503)
        await soon(lambda: ingest.asked > 1)
        ingest.status = 202
        await soon(lambda: len(ingest.events) == 2)
        write(path, 2)
        await soon(lambda: len(ingest.events) == 3)
        await soon(lambda: tail.sent.total() == 3)
    assert calls.outcomes == [("d-r-3", 200), ("d-r-2", 503)]
    assert [p["request_id"] for p in ingest.payloads()] == ["r-1", "r-3", "r-2"]
    assert_countable(ingest)


async def test_a_folder_is_no_log(path: Path, ingest: Ingest) -> None:
    """What cannot be followed stops the start."""
    path.mkdir()
    with pytest.raises(Invalid, match=r"UNDECIDED_LOG: .* is not a file; name the file"):
        await tail_of(path, ingest).start()

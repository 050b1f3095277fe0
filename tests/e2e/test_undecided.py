"""What never reached Check, in the real stack: refused by Envoy, or nobody there to decide."""

import json
import os
import signal
import tempfile
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest

from tests.tools.raw_http import connection, exchange, get, post
from tests.tools.sentinel_up import Up
from tests.tools.stack import stored, traceparent
from tests.tools.waiting import eventually

UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
# What Envoy refuses, with the reason and the details of the event.
REFUSED = {
    "request_too_large": (post(body=b"x" * (4 * 1024 * 1024 + 1)), "request_payload_too_large"),
    "upgrade_refused": (get("/mcp?token=hush", UPGRADE), "upgrade_failed"),
    "connect_refused": (b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", "route_not_found"),
    "http_1_0_refused": (b"GET / HTTP/1.0\r\nHost: h\r\n\r\n", "low_version"),
    "headers_too_large": (get(headers=f"A: {'a' * 70000}\r\n"), "http1.headers_too_large"),
    "encoding_refused": (
        CHUNKED.replace(b"chunked", b"gzip, chunked") + b"\r\n0\r\n\r\n",
        "http1.invalid_transfer_encoding",
    ),
}
MALFORMED = {
    "http1.unexpected_underscore": post(headers="X_y: 1\r\n"),
    "http1.content_length_and_chunked_not_allowed": CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "http1.codec_error": b"\x16\x03garbage\r\n\r\n",
}
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}'
DEAD_CALLS = 25
KILLS = 2
FLOODERS = 2


@dataclass
class Story:
    """What was sent, and what the store held in the end.

    Attributes:
        refused: request id to the reason in Envoy's answer.
        given_up, unanswered: trace ids of calls that waited for a decision in vain.
        dead: request ids of the calls that were answered 503 while nobody decided.
        flood: request ids of refused requests while the decision point was killed.
    """

    refused: dict[str, str] = field(default_factory=dict)
    given_up: str = ""
    unanswered: str = ""
    dead: list[str] = field(default_factory=list)
    flood: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def by_request(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in self.undecided():
            found[event["payload"].get("request_id", "")].append(event["payload"])
        return found

    def undecided(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["payload"].get("undecided")]


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """One run of the stack, ended before the tests look."""
    with tempfile.TemporaryDirectory(prefix="undecided-") as folder:
        up = Up(Path(folder) / "state")
        told = Story()
        try:
            _refuse(up, told)
            _hold(up, told)
            _call_the_dead(up, told)
            _kill_under_flood(up, told)
            eventually(lambda: _has_caught_up(up), "the file is read to its end")
        finally:
            code = up.stop()
        assert code == 0, up.log.read_text()
        told.events = stored(up.state)
        yield told


def _refuse(up: Up, told: Story) -> None:
    port = _port(up)
    for reason, (request, _) in REFUSED.items():
        answer = exchange(port, request)
        assert answer.json()["error"]["data"]["reason"] == reason
        for request_id in answer.values("x-request-id"):
            told.refused[request_id] = reason
    for request in MALFORMED.values():
        assert exchange(port, request).status == 400
    with (
        httpx2.Client(http1=False, http2=True, trust_env=False) as client,
        suppress(httpx2.HTTPError),
    ):
        client.post(up.endpoints["mcp"], headers={"x_y": "1"})


def _hold(up: Up, told: Story) -> None:
    """Calls that Envoy gives up on: the decision point sleeps, and decides when it wakes."""
    sleeper = psutil.Process(_pid(up))
    sleeper.suspend()
    try:
        told.given_up, told.unanswered = uuid.uuid4().hex, uuid.uuid4().hex
        assert exchange(_port(up), _call(told.given_up)).status == 503
        with connection(_port(up)) as client:
            client.sendall(_call(told.unanswered))
    finally:
        sleeper.resume()


def _call_the_dead(up: Up, told: Story) -> None:
    """Dies again whenever it comes back too soon."""
    while len(told.dead) < DEAD_CALLS:
        before = _pid(up)
        os.kill(before, signal.SIGKILL)
        for _ in range(DEAD_CALLS):
            answer = exchange(_port(up), _call(uuid.uuid4().hex))
            if answer.status == 503:
                assert answer.json()["error"]["data"]["reason"] == "decision_unavailable"
                told.dead += answer.values("x-request-id")
        _await_another(up, before)
    eventually(lambda: _decides(up), "calls are decided again")


def _kill_under_flood(up: Up, told: Story) -> None:
    over, lock, random = threading.Event(), threading.Lock(), Random(7)

    def flood() -> None:
        while not over.is_set():
            (request_id,) = exchange(_port(up), get(headers=UPGRADE)).values("x-request-id")
            with lock:
                told.flood.append(request_id)

    workers = [threading.Thread(target=flood) for _ in range(FLOODERS)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(KILLS):
            goal = len(told.flood) + random.randrange(300, 900)
            eventually(partial(_has_more, told.flood, goal), "more requests refused")
            before = _pid(up)
            os.kill(before, signal.SIGKILL)
            _await_another(up, before)
            eventually(lambda: _decides(up), "calls are decided again")
    finally:
        over.set()
        for worker in workers:
            worker.join()


def _has_caught_up(up: Up) -> bool:
    position = json.loads((up.state / "spool/undecided.position").read_bytes())
    return bool(position["offset"] == (up.state / "spool/undecided.jsonl").stat().st_size)


def _port(up: Up) -> int:
    port = urlsplit(up.endpoints["mcp"]).port
    assert port
    return port


def _pid(up: Up) -> int:
    found = json.loads((up.state / "state.json").read_text())["components"]
    return int(next(each["pid"] for each in found if each["name"] == "decision-point"))


def _await_another(up: Up, before: int) -> None:
    eventually(lambda: _pid(up) not in {0, before}, "another process")


def _has_more(flood: list[str], count: int) -> bool:
    return len(flood) > count


def _decides(up: Up) -> bool:
    return exchange(_port(up), _call(uuid.uuid4().hex)).status != 503


def _call(trace_id: str) -> bytes:
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "X-MCP-Agent-ID": "nobody",
        "traceparent": traceparent(trace_id),
    }
    return post("/mcp", "".join(f"{name}: {value}\r\n" for name, value in headers.items()), CALL)


def test_each_refused_request_is_one_event(story: Story) -> None:
    """With the reason that the client was told, and what Envoy saw."""
    assert "request_too_large" in story.refused.values()
    found = story.by_request()
    for request_id, reason in story.refused.items():
        (payload,) = found[request_id]
        assert (payload["decision"], payload["reason"]) == ("deny", reason)
        assert payload["response_details"] == REFUSED[reason][1]
        assert (payload["server"], payload["peer"]) == ("reference-server", "127.0.0.1")
        assert "decision_id" not in payload


def test_what_has_no_request_id_is_there_too(story: Story) -> None:
    """Each request that the codec refused, by its details; HTTP/2's reset as well."""
    details = Counter(event["payload"]["response_details"] for event in story.undecided())
    for each in (*MALFORMED, *(details_ for _, details_ in REFUSED.values())):
        assert details[each] == 1 or each == "upgrade_failed", each
    (reset,) = [
        event["payload"]
        for event in story.undecided()
        if event["payload"]["response_details"] == "http2.unexpected_underscore"
    ]
    assert (reset["status"], reset["reason"]) == (0, "malformed_http")


def test_calls_while_nobody_decided_are_each_found_once(story: Story) -> None:
    """Killed, asked, started again: every call that got 503 is an event with its request id."""
    assert len(story.dead) >= DEAD_CALLS
    found = story.by_request()
    for request_id in story.dead:
        (payload,) = found[request_id]
        assert (payload["reason"], payload["status"]) == ("decision_unavailable", 503)
        assert (payload["method"], payload["path"]) == ("POST", "/mcp")


def test_a_kill_in_the_middle_neither_loses_nor_doubles(story: Story) -> None:
    """Thousands of refused requests over the kills: each is one event."""
    assert len(story.flood) > KILLS * 300
    found = story.by_request()
    assert [len(found[request_id]) for request_id in story.flood] == [1] * len(story.flood)
    ids = [event["event_id"] for event in story.events]
    assert len(ids) == len(set(ids))


def test_its_sequence_has_no_hole(story: Story) -> None:
    """The log is one start from the first line to the last, over all restarts."""
    (start,) = {event["payload"]["gateway_start"] for event in story.undecided()}
    sequences = [
        event["payload"]["sequence"]
        for event in story.events
        if event["payload"].get("gateway_start") == start
    ]
    assert sorted(sequences) == list(range(1, len(sequences) + 1))


def test_calls_that_envoy_gave_up_on_are_found(story: Story) -> None:
    """A decision point that does not answer in time, and a client that leaves before it does."""
    traces = [event["trace_id"] for event in story.events if event["event_type"] == "mcp.request"]
    assert story.given_up in traces
    assert story.unanswered in traces


def test_no_secret_reaches_an_event(story: Story) -> None:
    """Envoy leaves the query out of its line."""
    assert "hush" not in str(story.events)

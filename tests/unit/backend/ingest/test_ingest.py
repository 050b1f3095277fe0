"""`POST /events` against a real log: what is taken, what is refused and how."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from backend.adapters.sqlite_log import SqliteLog
from backend.auth.api_keys import ApiKeys, from_lists
from backend.ingest.app import create_app
from backend.metrics import IngestMetrics, new_registry
from backend.operations import readiness
from backend.ports import Assignment

KEY = {"x-api-key": "k"}
GOOD: dict[str, Any] = {"source": "s", "event_type": "mcp.request", "payload": {"a": 1}}
MIB = 1 << 20


class Nobody:
    async def assigned(self, assignment: Assignment) -> None: ...

    async def revoked(self) -> None: ...


@pytest.fixture
async def client(log: SqliteLog) -> AsyncIterator[TestClient[Any, Any]]:
    app = create_app(
        log=log,
        verifier=ApiKeys(from_lists([], ["admin"], ["k"])),
        ready=readiness({"event_log": log.ping}),
        metrics=IngestMetrics(new_registry()),
        clock=lambda: 1_790_000_000.0,
        new_id=lambda: "new-id",
        max_request_bytes=4 * MIB,
    )
    async with TestClient(TestServer(app)) as opened:
        yield opened


async def logged(log: SqliteLog) -> list[dict[str, Any]]:
    consumer = log.consumer("test")
    await consumer.start(Nobody())
    records = await consumer.fetch(100_000, 0)
    await consumer.stop()
    return [json.loads(record.value) for record in records]


def with_(**members: Any) -> bytes:
    return json.dumps({k: v for k, v in (GOOD | members).items() if v is not ...}).encode()


TAKEN = [
    ("application/json", with_(), 1),
    ("application/json; charset=utf-8", with_(), 1),
    ("application/cloudevents+json", with_(), 1),
    ("application/json", b"[" + with_() + b"," + with_() + b"]", 2),
    ("application/x-ndjson", with_() + b"\n" + with_() + b"\n\n", 2),
    ("application/json", with_(payload="text"), 1),
    ("application/json", with_(payload=0), 1),
    ("application/json", with_(payload=[]), 1),
    ("application/json", with_(payload=2**64 - 1), 1),
]


@pytest.mark.parametrize(("kind", "body", "count"), TAKEN)
async def test_taken(
    client: TestClient[Any, Any], log: SqliteLog, kind: str, body: bytes, count: int
) -> None:
    """202 `{"ok": true}`, and the log has every event."""
    answer = await client.post("/events", data=body, headers=KEY | {"Content-Type": kind})
    assert (answer.status, await answer.json()) == (202, {"ok": True})
    assert len(await logged(log)) == count


async def test_what_is_absent_is_filled(client: TestClient[Any, Any], log: SqliteLog) -> None:
    """event_id and timestamp are added; the producer is the principal, never the client's."""
    await client.post("/events", json=GOOD | {"producer": "somebody else"}, headers=KEY)
    (event,) = await logged(log)
    assert event["event_id"] == "new-id"
    assert event["timestamp"] == "2026-09-21T14:13:20.000Z"
    assert event["producer"].startswith("key-")


async def test_what_is_there_is_kept(client: TestClient[Any, Any], log: SqliteLog) -> None:
    """A producer's id and time stay, and so do members that we do not know."""
    sent = GOOD | {"event_id": "x", "timestamp": "2026-01-01T00:00:00Z", "resent": True, "more": 1}
    await client.post("/events", json=sent, headers=KEY)
    (event,) = await logged(log)
    event.pop("producer")
    assert event == sent


async def test_trace_headers_travel_along(client: TestClient[Any, Any], log: SqliteLog) -> None:
    """W3C trace headers become the record's headers."""
    await client.post("/events", json=GOOD, headers=KEY | {"traceparent": "00-ab-cd-01"})
    consumer = log.consumer("test")
    await consumer.start(Nobody())
    (record,) = await consumer.fetch(1, 0)
    await consumer.stop()
    assert record.headers == (("traceparent", b"00-ab-cd-01"),)


REFUSED = [
    # body, status, error, field
    (b"", 400, "invalid_json", None),
    (b"{", 400, "invalid_json", None),
    (b"{} {}", 400, "invalid_json", None),
    (b'{"source":"s","source":"t"}', 400, "invalid_json", None),
    (b'{"source":"\xff"}', 400, "invalid_json", None),
    (b'{"source":"\\ud800"}', 400, "invalid_json", None),
    (b'{"source":NaN}', 400, "invalid_json", None),
    (b'{"source":1e999}', 400, "invalid_json", None),
    (b"[" * 100 + b"]" * 100, 400, "invalid_json", None),
    (b"null", 400, "invalid_request", None),
    (b"[]", 400, "invalid_request", None),
    (b"[1]", 400, "invalid_request", "[0]"),
    (b"[[]]", 400, "invalid_request", "[0]"),
    (with_(source=...), 400, "missing_fields", "source"),
    (with_(source=" "), 400, "missing_fields", "source"),
    (with_(source=1), 400, "missing_fields", "source"),
    (with_(event_type=""), 400, "missing_fields", "event_type"),
    (with_(payload=...), 400, "missing_fields", "payload"),
    (with_(payload=None), 400, "missing_fields", "payload"),
    (with_(payload=2**64), 400, "invalid_json", "payload"),
    (with_(event_id=1), 400, "invalid_request", "event_id"),
    (with_(event_id="x" * 200), 400, "invalid_request", "event_id"),
    (with_(trace_id={}), 400, "invalid_request", "trace_id"),
    (with_(timestamp="yesterday"), 400, "invalid_request", "timestamp"),
    (with_(timestamp="1969-12-31T00:00:00Z"), 400, "invalid_request", "timestamp"),
    (with_(timestamp="9999-01-01T00:00:00Z"), 400, "invalid_request", "timestamp"),
    (b"[" + with_() + b"," + with_(source="") + b"]", 400, "missing_fields", "[1].source"),
    (with_(event_type="governance.change"), 403, "forbidden", None),
    (with_(payload="x" * MIB), 413, "too_large", None),
    (b"[" + with_() + b"," + with_(payload="x" * (MIB + 2000)) + b"]", 413, "too_large", "[1]"),
    (b"[" + b",".join([with_()] * 10_001) + b"]", 413, "too_large", None),
    (b"x" * (4 * MIB + 1), 413, "request_entity_too_large", None),
]


@pytest.mark.parametrize(("body", "status", "error", "field"), REFUSED)
async def test_refused(
    client: TestClient[Any, Any],
    log: SqliteLog,
    body: bytes,
    status: int,
    error: str,
    field: str | None,
) -> None:
    """The answer says what and where; the whole request is refused."""
    headers = KEY | {"Content-Type": "application/json"}
    answer = await client.post("/events", data=body, headers=headers)
    problem = await answer.json()
    assert (answer.status, problem["error"], problem.get("field") or None) == (status, error, field)
    assert answer.content_type == "application/problem+json"
    assert set(problem) >= {"type", "title", "detail", "error", "message"}
    assert "status" not in problem
    assert all(isinstance(member, str) for member in problem.values())
    assert await logged(log) == []


async def test_a_bad_line_refuses_all(client: TestClient[Any, Any], log: SqliteLog) -> None:
    """NDJSON: the line is named by its index, and no event of the request is taken."""
    body = with_() + b"\n\n" + b'{"source":' + b"\n" + with_()
    headers = KEY | {"Content-Type": "application/x-ndjson"}
    answer = await client.post("/events", data=body, headers=headers)
    assert (answer.status, (await answer.json())["field"]) == (400, "[1]")
    assert await logged(log) == []


CREDENTIALS: list[tuple[dict[str, str], int]] = [
    ({}, 401),
    ({"x-api-key": "nope"}, 401),
    ({"x-api-key": "admin"}, 403),
    ({"x-api-key": "k"}, 202),
    ({"Authorization": "Bearer k"}, 202),
    ({"x-api-key": "nope", "Authorization": "Bearer k"}, 202),
]


@pytest.mark.parametrize(("headers", "status"), CREDENTIALS)
async def test_credentials(
    client: TestClient[Any, Any], headers: dict[str, str], status: int
) -> None:
    """Only a credential with the scope `ingest` may send; an admin key may not."""
    answer = await client.post("/events", json=GOOD, headers=headers)
    assert answer.status == status


async def test_method_and_media_type(client: TestClient[Any, Any]) -> None:
    """Another method answers 405, another content type 415."""
    answer = await client.get("/events", headers=KEY)
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    form = KEY | {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.post("/events", data=with_(), headers=form)
    assert (answer.status, (await answer.json())["error"]) == (415, "unsupported_media_type")
    assert (await client.get("/nothing")).status == 404


COMPRESSED = [
    (gzip.compress(with_()), 202),
    (with_(), 400),  # says gzip and is not
    (gzip.compress(b" " * (8 * MIB) + with_()), 413),  # small outside, large inside
]


@pytest.mark.parametrize(("body", "status"), COMPRESSED)
async def test_compressed_bodies(client: TestClient[Any, Any], body: bytes, status: int) -> None:
    """gzip is read, within the same bounds."""
    headers = KEY | {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = await client.post("/events", data=body, headers=headers)
    assert answer.status == status
    assert await answer.json(content_type=None)


async def test_a_log_that_is_away(client: TestClient[Any, Any], log: SqliteLog) -> None:
    """503 with Retry-After, and not ready, though alive."""
    assert (await client.get("/ready")).status == 200
    await log.stop()
    answer = await client.post("/events", json=GOOD, headers=KEY)
    assert (answer.status, (await answer.json())["error"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert (await client.get("/ready")).status == 503
    assert (await client.get("/health")).status == 200
    assert (await client.get("/live")).status == 200


async def test_metrics(client: TestClient[Any, Any]) -> None:
    """Answers are counted by status, events by number."""
    await client.post("/events", json=[GOOD, GOOD], headers=KEY)
    await client.post("/events", json=GOOD)
    text = await (await client.get("/metrics")).text()
    assert 'ingest_requests_total{status="202"} 1.0' in text
    assert 'ingest_requests_total{status="401"} 1.0' in text
    assert "ingest_events_total 2.0" in text

"""`POST /events` against a real log: what is taken, what is refused and how."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from tests.tools.waiting import soon
from tests.unit.backend.ingest.conftest import NEW_ID, Client, Logged, NewClient

GOOD: dict[str, Any] = {"source": "s", "event_type": "mcp.request", "payload": {"a": 1}}
MIB = 1 << 20
ID = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"


def with_(**members: Any) -> bytes:
    return json.dumps({k: v for k, v in (GOOD | members).items() if v is not ...}).encode()


def anonymous(headers: dict[str, str]) -> dict[str, str]:
    return {"x-api-key": ""} | headers


TAKEN = [
    ("application/json", with_(), 1),
    ("application/json; charset=utf-8", with_(), 1),
    ("application/cloudevents+json", with_(), 1),
    ("application/json", b"[" + with_() + b"," + with_() + b"]", 2),
    ("application/json", b" [\n" + with_() + b"\n,\t" + with_() + b" ]\n", 2),
    ("application/x-ndjson", with_() + b"\n" + with_() + b"\n\n", 2),
    ("application/ndjson", b"\r\n" + with_() + b"\r\n", 1),
    ("application/json", with_(payload="text"), 1),
    ("application/json", with_(payload=0), 1),
    ("application/json", with_(payload=False), 1),
    ("application/json", with_(payload=[]), 1),
    ("application/json", with_(payload=2**64 - 1), 1),
    ("application/json", with_(payload={"deep": [[[{"x": "\0"}]]]}), 1),
    ("application/json", with_(timestamp="2026-09-21T15:13:20Z"), 1),  # an hour ahead
    ("application/json", with_(event_id="", timestamp="", trace_id=""), 1),
    ("application/json", b"[" + b",".join([with_()] * 10_000) + b"]", 10_000),
]


@pytest.mark.parametrize(("kind", "body", "count"), TAKEN)
async def test_taken(client: Client, logged: Logged, kind: str, body: bytes, count: int) -> None:
    """202 `{"ok": true}`, and the log has every event."""
    answer = await client.post("/events", data=body, headers={"Content-Type": kind})
    assert (answer.status, await answer.json()) == (202, {"ok": True})
    assert len(await logged.records()) == count


async def test_what_is_absent_is_filled(client: Client, logged: Logged) -> None:
    """event_id and timestamp are added; the producer is the principal, never the client's."""
    await client.post("/events", json=GOOD | {"producer": "somebody else"})
    (event,) = await logged.events()
    assert event["event_id"] == NEW_ID
    assert event["timestamp"] == "2026-09-21T14:13:20.000Z"
    assert event["producer"].startswith("key-")


async def test_what_is_there_is_kept(client: Client, logged: Logged) -> None:
    """A producer's id and time stay, and so do members that we do not know."""
    sent = GOOD | {"event_id": ID, "timestamp": "2026-01-01T00:00:00Z", "resent": True, "more": 1}
    await client.post("/events", json=sent)
    (event,) = await logged.events()
    event.pop("producer")
    assert event == sent


async def test_trace_headers_travel_along(client: Client, logged: Logged) -> None:
    """W3C trace headers become the record's headers; several of a name are joined."""
    headers = [("traceparent", "00-ab-cd-01"), ("tracestate", "a=1"), ("tracestate", "b=2")]
    await client.post("/events", json=GOOD, headers=[*headers, ("x-other", "no")])
    (record,) = await logged.records()
    assert record.headers == (("traceparent", b"00-ab-cd-01"), ("tracestate", b"a=1, b=2"))


async def test_long_trace_headers_are_left_out(client: Client, logged: Logged) -> None:
    """They would be written with each event of a request, and many of them fit into one."""
    headers = [("traceparent", "00-ab-cd-01"), *[("baggage", "x" * 600)] * 2]
    answer = await client.post("/events", json=[GOOD, GOOD], headers=headers)
    assert answer.status == 202
    assert [r.headers for r in await logged.records()] == [(("traceparent", b"00-ab-cd-01"),)] * 2


async def test_a_gateway_of_mcp_runtime(client: Client, logged: Logged) -> None:
    """Its envelope is taken as upstream sends it: no id, no gateway start, one at a time."""
    sent = {
        "timestamp": "2026-09-21T14:13:19.123456789Z",
        "source": "mcp-gateway",
        "event_type": "mcp.request",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "payload": {"server": "demo", "namespace": "mcp-servers", "decision": "allow"},
    }
    answer = await client.post("/events", json=sent)
    assert (answer.status, await answer.json()) == (202, {"ok": True})
    (record,) = await logged.records()
    assert record.key is None
    assert json.loads(record.value).items() >= sent.items()


REFUSED = [
    # body, status, error, field
    (b"", 400, "invalid_json", ""),
    (b"{", 400, "invalid_json", ""),
    (b"{} {}", 400, "invalid_json", ""),
    (b"hello", 400, "invalid_json", ""),
    (b'{"source":"s","source":"t"}', 400, "invalid_json", ""),
    (b'{"source":"s","s\\u006furce":"t"}', 400, "invalid_json", ""),
    (b'{"source":"\xff"}', 400, "invalid_json", ""),
    (b'\xef\xbb\xbf{"source":"s"}', 400, "invalid_json", ""),
    (b'{"source":"\\ud800"}', 400, "invalid_json", ""),
    (b'{"source":"\x00"}', 400, "invalid_json", ""),
    (b'{"source":NaN}', 400, "invalid_json", ""),
    (b'{"source":1e999}', 400, "invalid_json", "source"),
    (b"[" * 100 + b"]" * 100, 400, "invalid_request", "[0]"),
    (b"[" * 100_000 + b"]" * 100_000, 400, "invalid_request", "[0]"),
    (b'{"payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "invalid_json", ""),
    (with_(payload=json.loads("[" * 64 + "]" * 64)), 400, "invalid_json", "payload"),
    (b"null", 400, "invalid_request", ""),
    (b'"text"', 400, "invalid_request", ""),
    (b"[]", 400, "invalid_request", ""),
    (b"[1]", 400, "invalid_request", "[0]"),
    (b"[[]]", 400, "invalid_request", "[0]"),
    (b"[" + with_() + b",null]", 400, "invalid_request", "[1]"),
    (b"[" + with_() + b",]", 400, "invalid_json", ""),
    (b"[" + with_() + b"] x", 400, "invalid_json", ""),
    (with_(source=...), 400, "missing_fields", "source"),
    (with_(source=" "), 400, "missing_fields", "source"),
    (with_(source=1), 400, "missing_fields", "source"),
    (with_(source="a\0b"), 400, "missing_fields", "source"),
    (with_(source="é" * 129), 400, "missing_fields", "source"),
    (with_(event_type=""), 400, "missing_fields", "event_type"),
    (with_(event_type="a\nb"), 400, "missing_fields", "event_type"),
    (with_(event_type="\u200bgovernance.change"), 400, "missing_fields", "event_type"),
    (with_(source="\x9b31m"), 400, "missing_fields", "source"),
    (with_(payload=...), 400, "missing_fields", "payload"),
    (with_(payload=None), 400, "missing_fields", "payload"),
    (with_(payload=2**64), 400, "invalid_json", "payload"),
    (with_(payload={"a": [-(2**64)]}), 400, "invalid_json", "payload"),
    (with_(event_id=1), 400, "invalid_request", "event_id"),
    (with_(event_id=None), 400, "invalid_request", "event_id"),
    (with_(event_id="x" * 36), 400, "invalid_request", "event_id"),
    (with_(event_id=ID.replace("-", "")), 400, "invalid_request", "event_id"),
    (with_(event_id=ID + "\n"), 400, "invalid_request", "event_id"),
    (with_(event_id=f" {ID}"), 400, "invalid_request", "event_id"),
    (with_(trace_id={}), 400, "invalid_request", "trace_id"),
    (with_(trace_id="\0"), 400, "invalid_request", "trace_id"),
    (with_(resent="yes"), 400, "invalid_request", "resent"),
    (with_(timestamp=0), 400, "invalid_request", "timestamp"),
    (with_(timestamp="yesterday"), 400, "invalid_request", "timestamp"),
    (with_(timestamp="2026-02-30T00:00:00Z"), 400, "invalid_request", "timestamp"),
    (with_(timestamp="1969-12-31T00:00:00Z"), 400, "invalid_request", "timestamp"),
    (with_(timestamp="9999-01-01T00:00:00Z"), 400, "invalid_request", "timestamp"),
    (with_(timestamp="2026-09-21T15:13:21Z"), 400, "invalid_request", "timestamp"),
    (b"[" + with_() + b"," + with_(source=...) + b"]", 400, "missing_fields", "[1].source"),
    (b"[" + with_() + b"," + with_(source="") + b"]", 400, "missing_fields", "[1].source"),
    (b"[" + with_() + b',{"a":1,"a":2,' + with_()[1:] + b"]", 400, "invalid_json", "[1]"),
    (b"[" + with_() + b"," + with_(payload="\ud800") + b"]", 400, "invalid_json", "[1]"),
    (with_(event_type="governance.change"), 403, "forbidden", "event_type"),
    (with_(event_type=" Governance.change"), 403, "forbidden", "event_type"),
    (with_(payload="x" * MIB), 413, "too_large", ""),
    (b"[" + with_() + b"," + with_(payload="x" * MIB) + b"]", 413, "too_large", "[1]"),
    (b"[" + b",".join([with_()] * 10_001) + b"]", 413, "too_large", ""),
    (b"x" * (4 * MIB + 1), 413, "too_large", ""),
]


@pytest.mark.parametrize(("body", "status", "error", "field"), REFUSED)
async def test_refused(
    client: Client, logged: Logged, body: bytes, status: int, error: str, field: str
) -> None:
    """The answer says what, where and the mend; nothing of the request reaches the log."""
    answer = await client.post("/events", data=body, headers={"Content-Type": "application/json"})
    problem = await answer.json()
    assert (answer.status, problem["error"], problem.get("field", "")) == (status, error, field)
    assert answer.content_type == "application/problem+json"
    assert set(problem) >= {"type", "title", "detail", "error", "message"}
    assert "status" not in problem
    assert all(isinstance(member, str) for member in problem.values())
    assert "; " in problem["detail"]
    assert await logged.records() == []


LINES = [
    (with_() + b"\n\n" + b'{"source":' + b"\n" + with_(), 400, "[1]"),
    (with_() + b"\n[" + with_() + b"]", 400, "[1]"),
    (with_() + b"\n" + with_(payload="x" * MIB), 413, "[1]"),
    (b"\n \n", 400, ""),
    (b"\n" * 30_000, 413, ""),
    ((with_() + b"\n") * 10_001, 413, ""),
]


@pytest.mark.parametrize(("body", "status", "field"), LINES)
async def test_a_bad_line_refuses_all(
    client: Client, logged: Logged, body: bytes, status: int, field: str
) -> None:
    """NDJSON: the event is named by its index, and none of the request is taken."""
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await client.post("/events", data=body, headers=headers)
    assert (answer.status, (await answer.json()).get("field", "")) == (status, field)
    assert await logged.records() == []


CREDENTIALS: list[tuple[dict[str, str], int]] = [
    ({}, 401),
    ({"x-api-key": "nope"}, 401),
    ({"x-api-key": "admin"}, 403),
    ({"x-api-key": "k"}, 202),
    ({"Authorization": "Bearer k"}, 202),
    ({"x-api-key": "nope", "Authorization": "Bearer k"}, 202),
]


@pytest.mark.parametrize(("headers", "status"), CREDENTIALS)
async def test_credentials(client: Client, headers: dict[str, str], status: int) -> None:
    """Only a credential with the scope `ingest` may send; an admin key may not."""
    answer = await client.post("/events", json=GOOD, headers=anonymous(headers))
    assert answer.status == status


async def test_what_is_older_than_the_store_keeps(new_client: NewClient) -> None:
    """It is refused, for the store would drop it; an event of the last day kept is taken."""
    client = await new_client(age_seconds=86_400.0)
    for at, status in (("2026-09-20T14:13:20Z", 202), ("2026-09-20T14:13:19Z", 400)):
        answer = await client.post("/events", json=GOOD | {"timestamp": at})
        assert (answer.status, (await answer.json()).get("field", "timestamp")) == (
            status,
            "timestamp",
        )


async def test_a_sender_that_hangs_up(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Is no bug: nothing is logged, and it counts as a bad request."""
    served = web.AppRunner(client.app, access_log=None)  # unlike a test server, it cancels nothing
    await served.setup()
    site = web.TCPSite(served, "127.0.0.1", 0)
    await site.start()
    _, writer = await asyncio.open_connection("127.0.0.1", served.addresses[0][1])
    writer.write(b"POST /events HTTP/1.1\r\nHost: a\r\nx-api-key: k\r\nContent-Length: 9\r\n\r\n{")
    await until_metrics(client, "ingest_held_bytes 1.0")
    writer.close()
    await until_metrics(client, 'ingest_requests_total{status="400"} 1.0')
    await until_metrics(client, "ingest_held_bytes 0.0")
    await served.cleanup()
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def until_metrics(client: Client, line: str) -> None:
    async def is_told() -> bool:
        return line in await (await client.get("/metrics")).text()

    await soon(is_told, line)


async def test_method_and_media_type(client: Client) -> None:
    """Another method answers 405, another content type 415."""
    answer = await client.get("/events")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/octet-stream"):
        answer = await client.post("/events", data=with_(), headers={"Content-Type": kind})
        problem = await answer.json()
        assert (answer.status, problem["error"]) == (415, "unsupported_media_type")
        assert problem["field"] == "Content-Type"
    assert (await client.get("/nothing")).status == 404


async def test_metrics(client: Client) -> None:
    """Answers are counted by status, events by number."""
    await client.post("/events", json=[GOOD, GOOD])
    await client.post("/events", json=GOOD, headers=anonymous({}))
    text = await (await client.get("/metrics")).text()
    assert 'ingest_requests_total{status="202"} 1.0' in text
    assert 'ingest_requests_total{status="401"} 1.0' in text
    assert "ingest_events_total 2.0" in text
    assert "ingest_held_bytes 0.0" in text


SENDERS = [
    # key, namespace, server, status, field
    ("k", "anywhere", "any", 202, ""),
    ("k", None, None, 202, ""),
    ("of-team-a", "team-a", "any", 202, ""),
    ("of-team-a", "team-b", "any", 403, "payload.namespace"),
    ("of-team-a", "", "", 403, "payload.namespace"),
    ("of-team-a", None, "any", 403, "payload.namespace"),
    ("of-team-a", ["team-a"], "any", 403, "payload.namespace"),
    ("of-team-a", "team-a", None, 403, "payload.server"),
    ("of-billing", "team-a", "billing", 202, ""),
    ("of-billing", "team-a", "other", 403, "payload.server"),
    ("of-billing", "team-b", "billing", 403, "payload.server"),
]


@pytest.mark.parametrize("kind", ["mcp.request", "gateway.start", "audit.gap", "of.others"])
@pytest.mark.parametrize(("key", "namespace", "server", "status", "field"), SENDERS)
async def test_who_may_send_what(
    client: Client,
    logged: Logged,
    kind: str,
    key: str,
    namespace: object,
    server: object,
    status: int,
    field: str,
) -> None:
    """A bound key sends events of its own servers alone, of whatever type."""
    own = {"namespace": "team-a", "server": "billing"}
    payload = {"namespace": namespace, "server": server}
    payload = {name: value for name, value in payload.items() if value is not None}
    events = [GOOD | {"payload": own}, GOOD | {"event_type": kind, "payload": payload}]
    answer = await client.post("/events", json=events, headers={"x-api-key": key})
    problem = await answer.json()
    assert (answer.status, problem.get("field", "")) == (status, field and f"[1].{field}")
    assert len(await logged.records()) == (2 if status == 202 else 0)


@pytest.mark.parametrize("payload", ["text", 1, ["team-a"], True])
async def test_a_bound_key_names_a_server(client: Client, payload: object) -> None:
    """A payload that is no object names none."""
    sent = GOOD | {"payload": payload}
    answer = await client.post("/events", json=sent, headers={"x-api-key": "of-team-a"})
    assert (answer.status, (await answer.json())["field"]) == (403, "payload.namespace")


async def test_one_line_is_an_event_among_several(client: Client) -> None:
    """By the index a gateway tells an event that its key may not send from a key without right."""
    sent = json.dumps(GOOD | {"payload": {"namespace": "team-b", "server": "any"}})
    headers = {"Content-Type": "application/x-ndjson"}
    for key, field in (("of-team-a", "[0].payload.namespace"), ("admin", None)):
        answer = await client.post("/events", data=sent, headers=headers | {"x-api-key": key})
        assert (answer.status, (await answer.json()).get("field")) == (403, field)


async def test_governance_events(client: Client, logged: Logged) -> None:
    """They are taken from a component's own credential, and stamped with its name."""
    sent = GOOD | {"event_type": "governance.change"}
    answer = await client.post("/events", json=sent, headers={"x-api-key": "of-the-api"})
    assert answer.status == 202
    (event,) = await logged.events()
    assert event["producer"] == "of-the-api"


@pytest.mark.parametrize("path", ["/events", "/health", "/metrics"])
@pytest.mark.parametrize(
    ("expect", "status"),
    [(b"\xff", b"417"), (b"200-maybe", b"417"), (b"100-Continue", b"100"), (b"", b"")],
)
async def test_what_is_expected(client: Client, path: str, expect: bytes, status: bytes) -> None:
    """Any bytes in `Expect` are answered; only 100-continue goes on."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    head = b"HEAD" if path != "/events" else b"POST"
    writer.write(head + f" {path} HTTP/1.1\r\nHost: a\r\n".encode())
    writer.write(b"Content-Length: 0\r\nConnection: close\r\nExpect: " + expect + b"\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.split()[1].startswith(status)
    assert b" 500 " not in answer
    if status == b"417" and path == "/events":
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "expectation_failed"

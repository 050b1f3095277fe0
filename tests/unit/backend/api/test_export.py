"""Exports of the audit trail: as files, and as streams through the real server."""

import asyncio
import csv
import http.client
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.api.events import MOST_EXPORTS, MOST_OF_ONE
from backend.queries import EventFilter, ExportForm
from backend.serving import WsgiUnit
from extauthz.core.errors import Retryable, TooSlow
from tests.tools.event_rows import event_id, row
from tests.tools.log_thread import LogThread
from tests.tools.waiting import SECONDS, eventually
from tests.unit.backend.api.conftest import NewApp

ADMIN = {"x-api-key": "admin"}
MIB = 1 << 20
FORMULAS = ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1")
EVENTS = [
    row(1, {"server": "shop", "agent_id": 'a "quoted", name\nof two lines', "decision": "deny"}),
    *(row(2 + n, {"server": "shop", "tool_name": text}) for n, text in enumerate(FORMULAS)),
    row(20, {"server": "bank"}),
    row(21, {"server": "bank"}, "mcp.response", outcome_of=event_id(1)),
]
Serve = Callable[..., int]


class Chunks:
    """A store whose export goes on for as long as it is asked to.

    Args:
        chunks: how many there are.
        fails: what is raised behind the last one.
    """

    def __init__(self, chunks: int, fails: Exception | None = None) -> None:
        self.chunks, self.fails = chunks, fails
        self.made, self.ended = 0, threading.Event()

    def export(self, asked: EventFilter, form: ExportForm) -> Iterator[bytes]:
        try:
            while self.made < self.chunks:
                self.made += 1
                yield b"x" * (MIB - 1) + b"\n"
            if self.fails:
                raise self.fails
        finally:
            self.ended.set()


@pytest.fixture(scope="module")
def client(filled: ClickHouseStore, new_app: NewApp) -> FlaskClient:
    filled.insert(EVENTS)
    return new_app(filled).test_client()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves applications by the real server; returns the port of each."""
    thread, stop, running = LogThread(), asyncio.Event(), []

    def serve(app: Any, **options: float) -> int:
        unit, ready = WsgiUnit("api", app, "127.0.0.1", 0, **options), threading.Event()
        running.append(asyncio.run_coroutine_threadsafe(unit.run(stop, ready.set), thread.loop))
        assert ready.wait(SECONDS)
        return unit.port

    yield serve
    thread.loop.call_soon_threadsafe(stop.set)
    for each in running:
        each.result(SECONDS)
    thread.stop()


@pytest.mark.parametrize("path", ["/api/events", "/api/v1/events/filter"])
@pytest.mark.parametrize(
    ("query", "accept"),
    [
        ("format=ndjson", ""),
        ("format=ndjson", "text/csv"),
        ("", "application/x-ndjson"),
        ("", "application/ndjson, application/json;q=0.5"),
    ],
)
def test_lines_of_json(client: FlaskClient, path: str, query: str, accept: str) -> None:
    """An object a line, as pages have them; `format` comes before `Accept`."""
    answer = client.get(f"{path}?{query}", headers=ADMIN | {"Accept": accept})
    assert (answer.status_code, answer.mimetype) == (200, "application/x-ndjson")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="events.ndjson"'
    lines = [json.loads(line) for line in answer.data.splitlines()]
    assert lines == client.get(path, headers=ADMIN).json["events"]  # type: ignore[index]
    assert len(lines) == len(EVENTS) - 1


@pytest.mark.parametrize(("query", "accept"), [("format=csv", ""), ("", "text/csv, */*;q=0.1")])
def test_a_sheet_of_cells(client: FlaskClient, query: str, accept: str) -> None:
    """A header, and a row an event; no cell can be taken for a formula."""
    answer = client.get(f"/api/events?{query}", headers=ADMIN | {"Accept": accept})
    assert (answer.status_code, answer.mimetype) == (200, "text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [each["event_id"] for each in rows] == [event_id(n) for n in (*range(1, 8), 20)]
    assert rows[0]["agent_id"] == 'a "quoted", name\nof two lines'
    assert not [cell for each in rows for cell in each.values() if cell[:1] in "=+-@\t\r" and cell]
    tools = [each["tool_name"] for each in rows[1:7]]
    assert all(text in cell for text, cell in zip(FORMULAS, tools, strict=True))


def test_filters_apply(client: FlaskClient) -> None:
    """An export holds what a list would."""
    answer = client.get("/api/events?format=ndjson&server=bank&since=1h", headers=ADMIN)
    assert [json.loads(line)["event_id"] for line in answer.data.splitlines()] == [event_id(20)]
    assert client.get("/api/events?format=ndjson&server=none", headers=ADMIN).data == b""


@pytest.mark.parametrize("accept", ["", "*/*", "text/html, */*;q=0.8", "application/json", "x"])
def test_a_page_is_the_default(client: FlaskClient, accept: str) -> None:
    """For browsers and for tools that say nothing."""
    answer = client.get("/api/events", headers=ADMIN | {"Accept": accept})
    assert answer.mimetype == "application/json"
    answer = client.get("/api/events?format=json", headers=ADMIN | {"Accept": "text/csv"})
    assert answer.mimetype == "application/json"


@pytest.mark.parametrize(("query", "field"), [("limit=5", "limit"), ("cursor=x", "cursor")])
def test_an_export_is_not_cut(client: FlaskClient, query: str, field: str) -> None:
    """What would be a part is refused, for it would seem whole."""
    answer = client.get(f"/api/events?format=csv&{query}", headers=ADMIN)
    assert (answer.status_code, answer.get_json(force=True)["field"]) == (400, field)


@pytest.mark.parametrize(
    ("fault", "code"),
    [(TooSlow("too slow; ask for less"), "query_timeout"), (Retryable("away"), "unavailable")],
)
def test_what_fails_at_once_is_a_problem(new_app: NewApp, fault: Exception, code: str) -> None:
    """The first chunk is fetched before the answer begins; the next export may run."""
    client = new_app(Chunks(0, fault)).test_client()  # type: ignore[arg-type]
    for _ in range(MOST_EXPORTS + 1):
        answer = client.get("/api/events?format=csv", headers=ADMIN)
        assert (answer.status_code, answer.get_json(force=True)["error"]) == (503, code)
        assert "Retry-After" in answer.headers


def test_exports_leave_room_for_queries(new_app: NewApp) -> None:
    """Only so many run at once, of one caller fewer; one that ended makes room."""
    client = new_app(Chunks(1000)).test_client()  # type: ignore[arg-type]

    def begin(key: str) -> Any:
        path = "/api/events?format=ndjson"
        return client.get(path, headers={"x-api-key": key}, buffered=False)

    running = [begin("admin") for _ in range(MOST_OF_ONE)]
    refused = begin("admin")
    assert (refused.status_code, refused.get_json(force=True)["error"]) == (503, "busy")
    running += [begin("both") for _ in range(MOST_EXPORTS - MOST_OF_ONE)]
    assert begin("team-a").status_code == 503
    running.pop(0).close()
    again = begin("team-a")
    assert again.status_code == 200
    for each in (*running, again):
        each.close()
    assert begin("admin").status_code == 200


def test_a_head_asks_for_no_export(new_app: NewApp) -> None:
    """It is answered, and what it began has ended."""
    client = new_app(Chunks(1000)).test_client()  # type: ignore[arg-type]
    for _ in range(MOST_EXPORTS + 1):
        with client.head("/api/events?format=csv", headers=ADMIN) as answer:
            assert (answer.status_code, answer.data) == (200, b"")


def asked(
    port: int, key: str = "admin", path: str = "/api/events?format=ndjson"
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    connection.request("GET", path, headers={"x-api-key": key})
    return connection.getresponse()


def test_a_stream_waits_for_its_reader(new_app: NewApp, serve: Serve) -> None:
    """Only some of it is made ahead; the store's query ends with the reader."""
    store = Chunks(2000)
    answer = asked(serve(new_app(store)))  # type: ignore[arg-type]
    assert len(answer.read(MIB)) == MIB
    before = -1
    while before != store.made:  # until it waits
        before = store.made
        time.sleep(0.2)
    assert store.made < 100
    answer.close()
    assert store.ended.wait(SECONDS)


def test_readers_that_stand_still_hold_up_nobody(new_app: NewApp, serve: Serve) -> None:
    """Queries go on beside them, and their connections are cut, so that others may export."""
    store = Chunks(2000)
    port = serve(new_app(store), stall_seconds=3.0)  # type: ignore[arg-type]
    stalled = [asked(port, key) for key in ("admin", "admin", "both")]
    assert asked(port, path="/api/auth/me").status == 200
    assert store.ended.wait(SECONDS)

    def another() -> http.client.HTTPResponse | None:
        answer = asked(port, "team-a")
        return answer if answer.status == 200 else None

    again = eventually(another, "another's place is free")
    assert len(again.read(MIB)) == MIB
    for each in stalled:
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            each.read()


def test_a_stream_that_breaks_is_not_taken_for_whole(new_app: NewApp, serve: Serve) -> None:
    """The connection ends in the middle of the answer."""
    port = serve(new_app(Chunks(3, Retryable("gone"))))  # type: ignore[arg-type]
    with pytest.raises(http.client.IncompleteRead):
        asked(port).read()
    port = serve(new_app(Chunks(3)))  # type: ignore[arg-type]
    assert len(asked(port).read()) == 3 * MIB

"""`/audit/completeness` over a real store."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.api.app import create_app
from backend.auth.api_keys import ApiKeys, from_lists
from backend.history.watch import PRODUCER
from backend.metrics import ApiMetrics, new_registry
from backend.ports.event_store import StoredEvent
from tests.tools.told_cluster import told_runtime
from tests.unit.backend.api.test_completeness import start_id

ADMIN = {"x-api-key": "admin"}
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BEGAN = NOON - timedelta(minutes=30)
START, NEXT = start_id(BEGAN), start_id(BEGAN + timedelta(minutes=10))
OFFSETS = count()
Send = Callable[..., None]


def client_of(store: ClickHouseStore | None, retention: timedelta | None = None) -> FlaskClient:
    app = create_app(
        store=store,  # type: ignore[arg-type]  # None where nobody gets that far
        changes=None,  # type: ignore[arg-type]  # nothing is changed here
        runtime=told_runtime(),
        verifier=ApiKeys(from_lists(["user"], ["admin"], ["ingest"])),
        access=None,  # type: ignore[arg-type]  # nobody asks for grants
        metrics=ApiMetrics(new_registry()),
        clock=lambda: NOON,
        retention=retention,
    )
    return app.test_client()


@pytest.fixture
def client(store: ClickHouseStore) -> FlaskClient:
    return client_of(store)


@pytest.fixture
def send(store: ClickHouseStore) -> Send:
    """Stores events of one start, each a second after the other."""

    def send(
        numbers: Iterable[int],
        *,
        start: str = START,
        producer: str = "p",
        first_at: datetime = BEGAN,
        kind: str = "mcp.request",
        payload: dict[str, Any] | None = None,
    ) -> None:
        rows = []
        for number in numbers:
            offset = next(OFFSETS)
            is_start = kind == "mcp.request" and number == 1
            rows.append(
                StoredEvent(
                    event_time=first_at + timedelta(seconds=min(number, 1000)),
                    event_id=str(UUID(int=0x7000 << 64 | 1 << 63 | offset)),
                    source="mcp-proxy",
                    event_type="gateway.start" if is_start else kind,
                    payload=json.dumps(payload or {}),
                    topic_id=UUID(int=1),
                    log_partition=0,
                    log_offset=offset,
                    producer=producer,
                    gateway="sidecar" if start else "",
                    gateway_start=start,
                    sequence=number if start else 0,
                    namespace="mcp-servers",
                    server="demo",
                )
            )
        store.insert(rows)

    return send


def asked(client: FlaskClient, query: str = "", mount: str = "/api") -> dict[str, Any]:
    answer = client.get(f"{mount}/audit/completeness?{query}", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json
    return report


@pytest.mark.parametrize("mount", ["/api", "/api/v1"])
def test_a_whole_trail(client: FlaskClient, send: Send, mount: str) -> None:
    """Names, numbers and times of each start, and the totals."""
    send(range(1, 1001))
    report = asked(client, mount=mount)
    assert (report["verdict"], report["alarm"]) == ("complete", False)
    assert report["since"] == "2026-11-22T11:00:00.000Z"
    assert report["totals"] == {
        "starts": 1,
        "present": 1000,
        "missing": 0,
        "explained": 0,
        "settling": 0,
        "unexplained": 0,
        "duplicates": 0,
        "silent": 1,
        "unnumbered": 0,
    }
    (start,) = report["starts"]
    expected = {
        "producer": "p",
        "namespace": "mcp-servers",
        "server": "demo",
        "gateway": "sidecar",
        "gateway_start": START,
        "undecided": False,
        "began_at": "2026-11-22T11:30:00.000Z",
        "first_at": "2026-11-22T11:30:01.000Z",
        "last_at": "2026-11-22T11:46:40.000Z",
        "first": 1,
        "last": 1000,
        "end": 1000,
        "tail": "silent",
        "holes": [],
        "gaps": [],
    }
    assert start.items() >= expected.items()
    assert "look at its pod" in start["next_step"]


def lost(first: int, last: int, start: str = START) -> dict[str, Any]:
    return {
        "lost_gateway_start": start,
        "first": first,
        "last": last,
        "count": last - first + 1,
        "cause": "crash",
    }


def test_losses_told_and_untold(client: FlaskClient, send: Send) -> None:
    """Holes are cut where a gap of the same producer explains them."""
    send([1, 2, 5, 6, 9])
    later = BEGAN + timedelta(minutes=10)
    send([1], start=NEXT, kind="audit.gap", payload=lost(4, 5), first_at=later)
    ended = {"previous_gateway_start": START, "previous_next_sequence": 11}
    send([2], start=NEXT, kind="gateway.start", payload=ended, first_at=later)
    send([1], producer="q", start=start_id(BEGAN, 9), kind="audit.gap", payload=lost(3, 10))
    report = asked(client)
    assert report["verdict"] == "holes"
    worst = report["starts"][0]
    assert (worst["gateway_start"], worst["tail"], worst["end"]) == (START, "told", 10)
    assert [(h["first"], h["last"], h["state"]) for h in worst["holes"]] == [
        (3, 3, "unexplained"),
        (4, 4, "explained"),
        (7, 8, "unexplained"),
        (10, 10, "unexplained"),
    ]
    (gap,) = worst["gaps"]
    assert (gap["count"], gap["missing"], gap["told_by"]) == (2, 1, NEXT)
    assert "sentinel dlq list" in worst["next_step"]


def test_what_is_stored_twice(client: FlaskClient, send: Send) -> None:
    """Two rows of one number are an alarm."""
    send([1, 2, 3])
    send([2])
    report = asked(client)
    assert (report["verdict"], report["alarm"]) == ("duplicates", True)
    assert report["starts"][0]["duplicates"] == 1


def test_foreign_events_are_counted_apart(client: FlaskClient, send: Send) -> None:
    """Nothing is proven about what no gateway numbers."""
    send(range(7), start="", producer="key-1")
    report = asked(client)
    assert (report["verdict"], report["starts"]) == ("complete", [])
    assert report["unnumbered"] == [
        {
            "producer": "key-1",
            "namespace": "mcp-servers",
            "server": "demo",
            "events": 7,
            "last_at": "2026-11-22T11:30:06.000Z",
        }
    ]


def test_recorded_changes_are_no_foreign_events(client: FlaskClient, send: Send) -> None:
    """What this backend records of custom resources needs no gateway's numbers."""
    send(range(3), start="", producer=PRODUCER)
    assert asked(client)["unnumbered"] == []


def test_a_clock_that_was_set_makes_no_holes(client: FlaskClient, send: Send) -> None:
    """Events outside of the time asked about are looked up before an alarm is raised."""
    send([1, 2, 8, 9])
    send([3, 4, 6, 7], first_at=BEGAN - timedelta(hours=5))
    report = asked(client)
    (start,) = report["starts"]
    assert [(h["first"], h["last"]) for h in start["holes"]] == [(5, 5)]
    send([5], first_at=BEGAN + timedelta(hours=9))
    assert asked(client)["verdict"] == "complete"


def test_a_monstrous_number_breaks_no_report(client: FlaskClient, send: Send) -> None:
    """Whoever may send events may send any number; the others' starts are still told of."""
    for number in range(3):
        send([1], start=start_id(BEGAN, number))
        send([(1 << 63) - 1 - number], start=start_id(BEGAN, number))
    report = asked(client)
    assert (report["verdict"], report["totals"]["starts"]) == ("holes", 3)
    assert report["totals"]["missing"] == (1 << 64) - 1


def test_what_was_kept_long_enough_is_not_missing(store: ClickHouseStore, send: Send) -> None:
    """The time asked about begins where events are still kept for sure."""
    send(range(1000, 2000))
    client = client_of(store, timedelta(minutes=80))
    report = asked(client, "since=24h")
    assert (report["verdict"], report["since"]) == ("complete", "2026-11-22T11:40:00.000Z")
    answer = client.get("/api/audit/completeness?since=3h&until=2h", headers=ADMIN)
    assert (answer.status_code, answer.get_json(force=True)["field"]) == (400, "until")


def test_a_slow_heartbeat_is_known_from_long_ago(client: FlaskClient, send: Send) -> None:
    """The start that tells of it lies before the time asked about; neither silent nor untold."""
    began = NOON - timedelta(hours=30)
    start = start_id(began)
    payload = {"heartbeat_seconds": 1800}
    send([1], start=start, kind="gateway.start", payload=payload, first_at=began)
    send([2], start=start, kind="gateway.heartbeat", first_at=NOON - timedelta(minutes=40))
    send([4], start=start, kind="gateway.heartbeat", first_at=NOON - timedelta(minutes=10))
    report = asked(client, "since=30m")
    (found,) = report["starts"]
    assert (found["tail"], found["verdict"]) == ("open", "settling")


def test_two_windows_that_touch_see_every_hole(client: FlaskClient, send: Send) -> None:
    """What is missing just where one ends is seen by one of them."""
    edge = "2026-11-22T11:40:00Z"
    send([1, *range(2, 590), *range(610, 700)])
    before, after = asked(client, f"until={edge}"), asked(client, f"since={edge}")
    assert "holes" in {before["verdict"], after["verdict"]}


@pytest.mark.parametrize(
    ("query", "field", "mend"),
    [
        ("since=1x", "since", "write it like 1h30m"),
        ("since=yesterday", "since", "write it like 1h30m"),
        ("until=99999999999h", "until", "out of range"),
        ("since=1h&until=2h", "since", "ask for an earlier `since`"),
        ("sinse=1h", "sinse", "did you mean `since`?"),
        ("window=1h", "window", "known: since, until"),
        ("since=1h&since=2h", "since", "give it once"),
    ],
)
def test_wrong_questions(query: str, field: str, mend: str) -> None:
    """The field and the mend, as a problem document."""
    answer = client_of(None).get(f"/api/audit/completeness?{query}", headers=ADMIN)
    problem = answer.get_json(force=True)
    assert (answer.status_code, problem["field"]) == (400, field)
    assert mend in problem["detail"]


@pytest.mark.parametrize(("key", "status"), [("", 401), ("user", 403), ("ingest", 403)])
def test_only_who_reads_everywhere_may_ask(key: str, status: int) -> None:
    """It names every server."""
    headers = {"x-api-key": key} if key else {}
    answer = client_of(None).get("/api/audit/completeness", headers=headers)
    assert answer.status_code == status

"""The api over a real store: what events show, what operators ask."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.adapters.clickhouse_store import ClickHouseStore
from extauthz.core.errors import Retryable
from tests.tools.event_rows import event_id, row
from tests.tools.told_cluster import told_runtime
from tests.unit.backend.api.conftest import NewApp

ADMIN = {"x-api-key": "admin"}


class Runtime:
    """An access store without anything, whose ping can be told to fail."""

    fault = ""

    def ping(self) -> None:
        if self.fault:
            raise Retryable(self.fault)

    def grants(self, namespace: str = "") -> list[Any]:
        return []

    sessions = grants


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def client(store: ClickHouseStore, new_app: NewApp, runtime: Runtime) -> FlaskClient:
    return new_app(store, access=runtime).test_client()


def test_a_payload_is_shown_as_it_came(client: FlaskClient, store: ClickHouseStore) -> None:
    """Byte for byte, of any kind."""
    store.insert([row(1, payload_text='{"n":1.50,"e":"\\u00e9"}'), row(2, payload_text='"text"')])
    answer = client.get("/api/events", headers=ADMIN)
    assert b'"payload":{"n":1.50,"e":"\\u00e9"}' in answer.data
    assert b'"payload":"text"' in answer.data


def test_an_outcome_that_came_apart_is_merged(client: FlaskClient, store: ClickHouseStore) -> None:
    """The call shows its outcome, and the `mcp.response` is no event of its own."""
    outcome = {"status": 200, "latency_ms": 5, "gateway": "x"}
    store.insert(
        [
            row(3, {"server": "shop", "gateway": "g"}),
            row(2, outcome, "mcp.response", outcome_of=event_id(3)),
            row(1, {}, "gateway.heartbeat"),
        ]
    )
    events = client.get("/api/events", headers=ADMIN).json["events"]  # type: ignore[index]
    assert [e["event_type"] for e in events] == ["gateway.heartbeat", "mcp.request"]
    whole = {"server": "shop", "gateway": "g", "status": 200, "latency_ms": 5}
    assert events[1]["payload"] == whole
    found = client.get(f"/api/events/{event_id(3)}", headers=ADMIN).json
    assert found["event"]["payload"] == whole  # type: ignore[index]
    types = "/api/events?event_type=mcp.response"
    alone = client.get(types, headers=ADMIN).json["events"]  # type: ignore[index]
    assert [e["event_id"] for e in alone] == [event_id(2)]


def test_statistics_leave_out_internal_types(client: FlaskClient, store: ClickHouseStore) -> None:
    """Calls and foreign events count, ours about the trail do not."""
    kinds = ("mcp.request", "custom", "mcp.response", "audit.gap", "governance.change")
    store.insert([row(number, {}, kind) for number, kind in enumerate(kinds)])
    assert client.get("/api/stats", headers=ADMIN).json == {"events_total": 2}


def test_an_empty_store_answers_with_empty_lists(client: FlaskClient) -> None:
    """Never null; what is named stays blank or a dash."""

    def asked(path: str) -> Any:
        answer = client.get(f"/api/{path}", headers=ADMIN)
        assert answer.status_code == 200
        return answer.json

    assert asked("sources") == {"sources": []}
    assert asked("event-types") == {"event_types": []}
    assert asked("events") == {"events": [], "meta": {"limit": 100, "has_more": False}}
    assert asked("dashboard/summary") == {
        "total_events": 0,
        "active_servers": 0,
        "active_grants": 0,
        "active_sessions": 0,
        "latest_source": "-",
        "last_event_type": "-",
    }
    usage = asked("analytics/usage")
    lists = ("servers", "actors", "tools", "decisions", "series", "recent", "teams")
    assert all(usage[name] == [] for name in lists)


def test_health_tells_whether_the_api_has_come_up(client: FlaskClient, runtime: Runtime) -> None:
    """503 until the custom resources were read once; what goes away later /ready alone tells."""
    runtime.fault = "gone"
    answer = client.get("/health")
    assert (answer.status_code, answer.json) == (503, {"ok": False, "runtime_initialized": False})
    runtime.fault = ""
    up = {"ok": True, "runtime_initialized": True}
    assert client.get("/health").json == up
    assert client.get("/ready").json == {"ok": True}
    runtime.fault = "gone"
    ready: Any = client.get("/ready")
    assert (ready.status_code, ready.json) == (503, {"ok": False, "access": "gone"})
    assert client.get("/health").json == up
    assert client.get("/live").json == {"ok": True}


def test_an_api_that_drains_is_not_ready(store: ClickHouseStore, new_app: NewApp) -> None:
    """While it starts, restarts or stops it says so, and stays alive."""
    fault = "is starting or draining"
    client = new_app(store, runtime=told_runtime(fault=lambda: fault)).test_client()
    ready: Any = client.get("/ready")
    assert (ready.status_code, ready.json) == (503, {"ok": False, "process": fault})
    assert client.get("/live").status_code == 200


def test_metrics_name_routes_not_paths(client: FlaskClient) -> None:
    """A caller cannot make new time series."""
    client.get("/api/stats", headers=ADMIN)
    client.get("/api/made-up", headers=ADMIN)
    text = client.get("/metrics").text
    assert 'api_requests_total{method="GET",route="/api/stats",status="200"} 1.0' in text
    assert "made-up" not in text

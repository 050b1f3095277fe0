"""The query api over a real store."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.api.app import create_app
from backend.api.events import merged, read_limit
from backend.auth.api_keys import ApiKeys, from_lists
from backend.metrics import ApiMetrics, new_registry
from backend.ports import StoredEvent
from extauthz.core.errors import Retryable

ADMIN = {"x-api-key": "admin"}
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
Insert = Callable[..., None]


def named(number: int) -> str:
    """An event's id."""
    return str(UUID(int=number))


class Runtime:
    """An access store's ping that can be told to fail."""

    fault = ""

    def ping(self) -> None:
        if self.fault:
            raise Retryable(self.fault)


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def client(store: ClickHouseStore, runtime: Runtime) -> FlaskClient:
    app = create_app(
        store=store,
        letters=None,
        verifier=ApiKeys(from_lists(["user"], ["admin"], ["ingest"])),
        runtime_ping=runtime.ping,
        metrics=ApiMetrics(new_registry()),
        clock=lambda: NOON,
        retention=None,
    )
    return app.test_client()


@pytest.fixture
def insert(store: ClickHouseStore) -> Insert:
    def insert(offset: int, event_type: str = "mcp.request", **members: Any) -> None:
        members = {"payload": "{}", "source": "mcp-proxy", "event_id": named(offset)} | members
        store.insert(
            [
                StoredEvent(
                    event_time=NOON + timedelta(seconds=offset),
                    event_type=event_type,
                    topic_id=UUID(int=1),
                    log_partition=0,
                    log_offset=offset,
                    **members,
                )
            ]
        )

    return insert


@pytest.mark.parametrize("mount", ["/api", "/api/v1"])
def test_an_event_shows_what_is_not_empty(client: FlaskClient, insert: Insert, mount: str) -> None:
    """Timestamp, source, type and payload always, the rest where known."""
    insert(1, server="shop", decision="deny", payload='{"n":1.50}')
    answer = client.get(f"{mount}/events", headers=ADMIN)
    assert answer.status_code == 200
    assert answer.json == {
        "events": [
            {
                "timestamp": "2026-11-22T12:00:01.000Z",
                "source": "mcp-proxy",
                "event_type": "mcp.request",
                "payload": {"n": 1.5},
                "server": "shop",
                "decision": "deny",
                "event_id": named(1),
            }
        ]
    }
    assert b"1.50" in answer.data  # the payload's own bytes


def test_an_outcome_that_came_apart_is_merged(client: FlaskClient, insert: Insert) -> None:
    """The call shows its outcome, and the `mcp.response` is no event of its own."""
    insert(1, payload='{"server":"shop","gateway":"g"}')
    insert(
        2,
        "mcp.response",
        outcome_of=named(1),
        payload='{"status":200,"latency_ms":5,"gateway":"x"}',
    )
    insert(3, "gateway.heartbeat")
    events = client.get("/api/events", headers=ADMIN).json["events"]  # type: ignore[index]
    assert [e["event_type"] for e in events] == ["gateway.heartbeat", "mcp.request"]
    assert events[1]["payload"] == {
        "server": "shop",
        "gateway": "g",
        "status": 200,
        "latency_ms": 5,
    }


def test_what_the_call_says_stays() -> None:
    """An outcome adds to its call, and never changes it."""
    assert merged({"status": 500}, {"status": 200, "bytes_in": 1}) == {"status": 500, "bytes_in": 1}
    assert merged("text", {"status": 200}) == "text"
    assert merged({"a": 1}, None) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "limit"),
    [("", 100), ("5", 5), ("0", 1), ("-3", 1), ("5000", 1000), ("many", 100), ("1.5", 100)],
)
def test_limits_are_clamped(text: str, limit: int) -> None:
    """1…1000; unreadable is 100."""
    assert read_limit(text) == limit


def test_the_limit_holds(client: FlaskClient, insert: Insert) -> None:
    """The newest come first."""
    for offset in range(3):
        insert(offset)
    events = client.get("/api/events?limit=2", headers=ADMIN).json["events"]  # type: ignore[index]
    assert [e["event_id"] for e in events] == [named(2), named(1)]


def test_statistics_leave_out_internal_types(client: FlaskClient, insert: Insert) -> None:
    """Calls and foreign events count, ours about the trail do not."""
    for offset, kind in enumerate(["mcp.request", "custom", "mcp.response", "audit.gap"]):
        insert(offset, kind)
    assert client.get("/api/stats", headers=ADMIN).json == {"events_total": 2}


CREDENTIALS: list[tuple[dict[str, str], int]] = [
    ({}, 401),
    ({"x-api-key": "wrong"}, 401),
    ({"x-api-key": "ingest"}, 403),
    ({"x-api-key": "user"}, 403),
    ({"Authorization": "Bearer admin"}, 200),
]


@pytest.mark.parametrize(("headers", "status"), CREDENTIALS)
@pytest.mark.parametrize("path", ["/api/events", "/api/v1/stats"])
def test_queries_need_read_everywhere(
    client: FlaskClient, path: str, headers: dict[str, str], status: int
) -> None:
    """Only an admin key reads across namespaces; a refusal is a problem of strings."""
    answer = client.get(path, headers=headers)
    assert answer.status_code == status
    if status != 200:
        assert answer.mimetype == "application/problem+json"
        problem: dict[str, Any] = answer.get_json(force=True)
        assert problem["error"] == {401: "unauthorized", 403: "forbidden"}[status]
        assert all(isinstance(member, str) for member in problem.values())


def test_wrong_paths_and_methods(client: FlaskClient) -> None:
    """404 and 405 are problem documents; a stranger is not told which routes exist."""
    assert client.get("/api/nothing", headers=ADMIN).status_code == 404
    assert client.get("/api/nothing").status_code == 401
    answer = client.post("/api/stats", headers=ADMIN)
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]
    assert answer.get_json(force=True)["error"] == "method_not_allowed"


def test_health_tells_of_the_runtime(client: FlaskClient, runtime: Runtime) -> None:
    """503 while the access store cannot be read; alive all the same."""
    assert client.get("/health").json == {"ok": True, "runtime_initialized": True}
    assert client.get("/ready").status_code == 200
    runtime.fault = "gone"
    answer = client.get("/health")
    assert (answer.status_code, answer.json) == (503, {"ok": False, "runtime_initialized": False})
    assert client.get("/ready").status_code == 503
    assert client.get("/live").status_code == 200


def test_metrics_name_routes_not_paths(client: FlaskClient) -> None:
    """A caller cannot make new time series."""
    client.get("/api/stats", headers=ADMIN)
    client.get("/api/made-up", headers=ADMIN)
    text = client.get("/metrics").text
    assert 'api_requests_total{method="GET",route="/api/stats",status="200"} 1.0' in text
    assert "made-up" not in text

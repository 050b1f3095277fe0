"""Each row of the tables that existing tools depend on (queries, log-in), in both spellings."""

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.adapters.clickhouse_store import ClickHouseStore
from tests.tools.event_rows import NOON, event_id, row
from tests.unit.backend.api.conftest import NewApp

ADMIN = {"x-api-key": "admin"}
ANY = object()  # whatever it is
CALL = {
    "server": "shop", "namespace": "team-a", "team_id": "t1", "cluster": "c1",
    "human_id": "alice", "agent_id": "ops", "session_id": "s1", "decision": "allow",
    "reason": "allowed", "tool_name": "list", "latency_ms": 10.0, "status": 200,
    "request_id": "r-1",
}  # fmt: skip
DENIED = {
    "server": "bank", "namespace": "team-b", "human_id": "bob", "agent_id": "fin",
    "decision": "deny", "reason": "tool_denied", "tool_name": "pay",
}  # fmt: skip
FOREIGN = {"note": "anything"}
# Minutes before noon; the newest is number 1.
EVENTS = [
    row(1, CALL, trace_id="trace-1"),
    row(2, DENIED),
    row(3, FOREIGN, "custom.thing", source="app", producer="other"),
    row(4, {"server": "shop", "namespace": "team-a"}, "gateway.heartbeat"),
    row(5, CALL | {"tool_name": "show"}),
    row(60 * 24 * 40, CALL | {"agent_id": "old"}),
]
# What existing tools send as a filter, and the numbers of the events that match.
FILTERS = [
    ("source=app", [3]),
    ("event_type=custom.thing", [3]),
    ("server=bank", [2]),
    ("namespace=team-b", [2]),
    ("cluster=c1&agent_id=old", [57600]),
    ("human_id=bob", [2]),
    ("agent_id=fin", [2]),
    ("session_id=s1&tool_name=show", [5]),
    ("decision=deny", [2]),
    ("tool_name=pay", [2]),
    ("trace_id=trace-1", [1]),
    ("team_id=t1&tool_name=show", [5]),
    ("reason=tool_denied", [2]),
    ("request_id=r-1&tool_name=list&agent_id=ops&event_type=mcp.request", [1]),
    ("producer=other", [3]),
    ("server=bank&decision=allow", []),
    ("server=&decision=deny&tool_name=%20", [2]),
    ("server=shop&limit=1", [1]),
    ("since=10m", [1, 2, 3, 4, 5]),
    ("since=2026-11-22T11:56:00Z&until=2026-11-22T11:58:00Z", [3, 4]),
    ("until=24h", [57600]),
]
LIMITS = [
    ("", 100),
    ("limit=", 100),
    ("limit=7", 7),
    ("limit=0", 1),
    ("limit=-3", 1),
    ("limit=5000", 1000),
    ("limit=many", 100),
    ("limit=1.5", 100),
    ("limit=" + "9" * 5000, 100),
]
LATENCY = {"completions": 1, "p50": ANY, "p95": ANY, "p99": ANY}
NO_LATENCY = {"completions": 0, "p50": 0, "p95": 0, "p99": 0}
MOUNTS = pytest.mark.parametrize("mount", ["/api", "/api/v1"])


@pytest.fixture(scope="module")
def client(filled: ClickHouseStore, new_app: NewApp) -> FlaskClient:
    filled.insert(EVENTS)
    return new_app(filled).test_client()


def asked(client: FlaskClient, path: str, key: str = "admin") -> Any:
    answer = client.get(path, headers={"x-api-key": key})
    assert (answer.status_code, answer.mimetype) == (200, "application/json"), answer.text
    return answer.json


def matches(found: Any, wanted: Any) -> bool:
    """Equal, `ANY` aside; objects may have more members than are wanted."""
    if wanted is ANY:
        return True
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            name in found and matches(found[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        same = isinstance(found, list) and len(found) == len(wanted)
        return same and all(map(matches, found, wanted))
    return bool(found == wanted)


@MOUNTS
@pytest.mark.parametrize("path", ["events", "events/filter"])
def test_events(client: FlaskClient, mount: str, path: str) -> None:
    """Newest first; four members always, the others where they are not empty."""
    page = asked(client, f"{mount}/{path}")
    assert [e["event_id"] for e in page["events"]] == [e.event_id for e in EVENTS]
    newest, foreign = page["events"][0], page["events"][2]
    named = {name: value for name, value in CALL.items() if name in newest}
    assert newest == named | {
        "timestamp": "2026-11-22T11:59:00.000Z",
        "source": "mcp-proxy",
        "event_type": "mcp.request",
        "payload": CALL,
        "trace_id": "trace-1",
        "event_id": event_id(1),
        "producer": "sidecar",
    }
    assert set(named) >= {"server", "namespace", "team_id", "cluster", "human_id", "agent_id"}
    assert set(named) >= {"session_id", "decision", "tool_name"}
    required = {"timestamp", "source", "event_type", "payload"}
    assert set(foreign) == required | {"event_id", "producer"}
    assert page["meta"] == {"limit": 100, "has_more": False}
    assert "next" not in page


@MOUNTS
@pytest.mark.parametrize("path", ["events", "events/filter"])
@pytest.mark.parametrize(("query", "numbers"), FILTERS)
def test_filters(
    client: FlaskClient, mount: str, path: str, query: str, numbers: list[int]
) -> None:
    """Each is exact, a blank one is ignored, and all of them combine."""
    events = asked(client, f"{mount}/{path}?{query}")["events"]
    assert [e["event_id"] for e in events] == [event_id(number) for number in numbers]


@MOUNTS
@pytest.mark.parametrize(("query", "limit"), LIMITS)
def test_limits(client: FlaskClient, mount: str, query: str, limit: int) -> None:
    """Clamped to 1…1000; what cannot be read counts as 100."""
    for path in ("events", "events/filter"):
        page = asked(client, f"{mount}/{path}?{query}")
        assert page["meta"]["limit"] == limit
        assert len(page["events"]) == min(limit, len(EVENTS))


@MOUNTS
def test_one_event(client: FlaskClient, mount: str) -> None:
    """By its id, however that is spelt."""
    wanted = asked(client, f"{mount}/events?limit=1")["events"][0]
    for spelling in (event_id(1), event_id(1).upper()):
        assert asked(client, f"{mount}/events/{spelling}") == {"event": wanted}
    assert client.get(f"{mount}/events/{event_id(99)}", headers=ADMIN).status_code == 404
    assert client.get(f"{mount}/events/none", headers=ADMIN).status_code == 404


USAGE = {
    "totals": {
        "events": 4, "allowed": 2, "denied": 1, "unique_servers": 2, "unique_humans": 2,
        "unique_agents": 2, "unique_sessions": 1,
    },
    "servers": [
        {
            "server": "shop", "namespace": "team-a", "team_id": "t1", "events": 2, "allowed": 2,
            "denied": 0, "unique_humans": 1, "unique_agents": 1, "last_seen": ANY,
        },
        {
            "server": "bank", "namespace": "team-b", "team_id": "", "events": 1, "allowed": 0,
            "denied": 1, "unique_humans": 1, "unique_agents": 1, "last_seen": ANY,
        },
    ],
    "actors": [
        {
            "human_id": "alice", "agent_id": "ops", "events": 2, "unique_servers": 1,
            "unique_tools": 2, "denied": 0, "last_seen": ANY,
        },
        {"human_id": "bob", "agent_id": "fin", "events": 1, "denied": 1},
    ],
    "tools": [ANY, ANY, ANY],
    "decisions": [
        {"decision": "allow", "events": 2},
        {"decision": ANY, "events": 1},
        {"decision": ANY, "events": 1},
    ],
    "series": [{"bucket": ANY, "events": 4, "allowed": 2, "denied": 1}],
    "recent": [{"event_type": "mcp.request", "server": "shop"}, ANY, ANY, ANY, ANY],
    "window_days": 30,
    "filters": {},
}  # fmt: skip
ROWS = [
    ("stats", {"events_total": 5}),
    (
        "event-types",
        {
            "event_types": [
                {"event_type": "mcp.request", "count": 4},
                {"event_type": ANY, "count": 1},
                {"event_type": ANY, "count": 1},
            ]
        },
    ),
    (
        "dashboard/summary",
        {
            "total_events": 5, "active_servers": 2, "active_grants": 2, "active_sessions": 1,
            "latest_source": "mcp-proxy", "last_event_type": "mcp.request",
            "last_event_time": "2026-11-22T11:59:00.000Z",
        },
    ),
    ("analytics/usage", USAGE),
    ("user/analytics/usage", USAGE),
    ("analytics/usage?window_days=365", {"window_days": 365, "totals": {"events": 5}}),
    ("analytics/usage?window_days=9999&limit=0", {"window_days": 365, "servers": [ANY]}),
    ("analytics/usage?window_days=x&limit=1", {"window_days": 30, "servers": [ANY]}),
    ("analytics/usage?namespace=team-b", {"totals": {"events": 1}}),
    ("analytics/usage?team_id=t1", {"totals": {"events": 2}, "filters": {"team_ids": ["t1"]}}),
    ("analytics/usage?server=bank", {"totals": {"events": 1}, "filters": {"server": "bank"}}),
    ("analytics/usage?decision=deny", {"totals": {"events": 1, "denied": 1}}),
    ("analytics/usage?status=deny", {"totals": {"events": 1}, "filters": {"decision": "deny"}}),
    ("analytics/usage?outcome=deny", {"totals": {"events": 1}}),
    ("analytics/usage?tool_name=pay", {"totals": {"events": 1}, "filters": {"tool_name": "pay"}}),
    ("analytics/usage?tool=pay", {"totals": {"events": 1}}),
    ("analytics/usage?human_id=bob", {"totals": {"events": 1}}),
    ("analytics/usage?window=24h", {"window_days": 1, "totals": {"events": 4}}),
    ("analytics/usage?window=90s", {"window_days": 1, "totals": {"events": 1}}),
    (
        "auth/me",
        {
            "authenticated": True,
            "principal": {"role": "admin", "subject": ANY, "email": "", "namespace": ""},
        },
    ),
    ("user/api-keys", {"keys": []}),
]  # fmt: skip


@MOUNTS
@pytest.mark.parametrize(("path", "wanted"), ROWS, ids=[path for path, _ in ROWS])
def test_answers(client: FlaskClient, mount: str, path: str, wanted: Any) -> None:
    """Fields, defaults and bounds of each route."""
    found = asked(client, f"{mount}/{path}")
    assert matches(found, wanted), found


@MOUNTS
def test_sources(client: FlaskClient, mount: str) -> None:
    """Those with most events first."""
    sources = asked(client, f"{mount}/sources")["sources"]
    assert [each["source"] for each in sources] == ["mcp-proxy", "app"]
    assert sources[1]["count"] == 1


def test_usage_tells_how_long_calls_took(client: FlaskClient) -> None:
    """Percentiles over the calls whose end is known."""
    totals = asked(client, "/api/analytics/usage")["totals"]["latency"]
    assert totals["completions"] == 2
    assert totals["p50"] == pytest.approx(10, rel=0.05)


REFUSED = [
    ("POST", "auth/login", {}, 401, "login_unavailable"),
    ("POST", "auth/login", ADMIN, 401, "login_unavailable"),
    ("POST", "user/api-keys", ADMIN, 403, "key_management_unavailable"),
    ("POST", "user/api-keys/1/revoke", ADMIN, 404, "not_found"),
    ("DELETE", "user/api-keys/1", ADMIN, 404, "not_found"),
    ("GET", "auth/me", {}, 401, "unauthorized"),
    ("GET", "events", {}, 401, "unauthorized"),
    ("GET", "stats", {"x-api-key": "ingest"}, 403, "forbidden"),
]


@MOUNTS
@pytest.mark.parametrize(("method", "path", "headers", "status", "code"), REFUSED)
def test_refusals(
    client: FlaskClient, mount: str, method: str, path: str, headers: dict[str, str],
    status: int, code: str,
) -> None:  # fmt: skip
    """A problem whose members are all strings, so that existing tools can show its message."""
    body = {"email": "a@b.example", "password": "x"} if method == "POST" else None
    answer = client.open(f"{mount}/{path}", method=method, headers=headers, json=body)
    problem = answer.get_json(force=True)
    assert (answer.status_code, problem["error"]) == (status, code)
    assert answer.mimetype == "application/problem+json"
    assert all(isinstance(member, str) for member in problem.values())
    assert "status" not in problem
    assert problem["message"] == problem["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": "admin"},
        {"Authorization": "Bearer admin"},
        {"x-api-key": "wrong", "Authorization": "Bearer admin"},
        {"x-api-key": "admin", "Authorization": "Bearer wrong"},
    ],
)
def test_either_credential_counts(client: FlaskClient, headers: dict[str, str]) -> None:
    """mcp-runtime's command line sends its token in both."""
    assert client.get("/api/v1/stats", headers=headers).status_code == 200


def test_who_asks(client: FlaskClient) -> None:
    """A user has its first namespace, and the list of all."""
    principal = asked(client, "/api/auth/me", "both")["principal"]
    assert principal == {
        "role": "user",
        "subject": "bob",
        "email": "",
        "namespace": "team-a",
        "scopes": ["govern", "read"],
        "namespaces": ["team-a", "team-b"],
    }
    assert asked(client, "/api/auth/me", "reader")["principal"]["role"] == "user"


def test_days_begin_at_midnight(client: FlaskClient) -> None:
    """So that aggregates can answer; the answer says where it began."""
    usage = asked(client, "/api/analytics/usage?window_days=2")
    midnight = (NOON - timedelta(days=2)).replace(hour=0)
    assert usage["since"] == f"{midnight:%Y-%m-%dT%H:%M:%S}.000Z"

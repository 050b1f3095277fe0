"""Who may ask, and which events each sees."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.adapters.clickhouse_store import ClickHouseStore
from tests.tools.event_rows import event_id, row
from tests.unit.backend.api.conftest import NewApp

EVENTS = [
    row(1, {"namespace": "team-a", "server": "shop", "agent_id": "ops"}),
    row(2, {"namespace": "team-b", "server": "bank", "agent_id": "ops"}),
    row(3, {"namespace": "team-c", "server": "mail", "agent_id": "ops"}, source="gw"),
    row(4, {"note": "of no namespace"}, "custom", source="app"),
]
LISTS = ("events", "events/filter", "events?agent_id=ops", "events?format=ndjson")


@pytest.fixture(scope="module")
def client(filled: ClickHouseStore, new_app: NewApp) -> FlaskClient:
    filled.insert(EVENTS)
    return new_app(filled).test_client()


def get(client: FlaskClient, path: str, key: str) -> Any:
    return client.get(f"/api/{path}", headers={"x-api-key": key})


@pytest.mark.parametrize(("key", "numbers"), [("admin", [1, 2, 3, 4]), ("both", [1, 2])])
def test_lists_hold_what_the_caller_may_see(
    client: FlaskClient, key: str, numbers: list[int]
) -> None:
    """Those of its namespaces; events of no namespace are for those who see everything."""
    page = get(client, "events", key).json
    assert [e["event_id"] for e in page["events"]] == [event_id(n) for n in numbers]
    lines = get(client, "events?format=ndjson", key).data.splitlines()
    assert len(lines) == len(numbers)


@pytest.mark.parametrize("path", ["events?namespace=team-c", "events?namespace=nowhere"])
def test_another_namespace_is_forbidden_whether_it_exists_or_not(
    client: FlaskClient, path: str
) -> None:
    """The same words for both."""
    answer = get(client, path, "both")
    assert answer.status_code == 403
    problem = answer.get_json(force=True)
    assert problem["message"].startswith("forbidden namespace `")
    namespace = path.rpartition("=")[2]
    assert problem["message"].replace(namespace, "x") == (
        "forbidden namespace `x`; ask for one of your own"
    )


def test_another_namespace_s_event_does_not_exist(client: FlaskClient) -> None:
    """As one that never was, its id aside."""
    assert get(client, f"events/{event_id(1)}", "team-a").status_code == 200
    there, nowhere = (get(client, f"events/{event_id(n)}", "team-a") for n in (2, 99))
    assert (there.status_code, nowhere.status_code) == (404, 404)
    assert there.text.replace(event_id(2), "") == nowhere.text.replace(event_id(99), "")


def test_counts_are_of_the_caller_s_namespaces(client: FlaskClient) -> None:
    """Grants and sessions as well."""
    assert get(client, "stats", "both").json == {"events_total": 2}
    assert get(client, "sources", "both").json == {"sources": [{"source": "mcp-proxy", "count": 2}]}
    types = get(client, "event-types", "team-a").json["event_types"]
    assert types == [{"event_type": "mcp.request", "count": 1}]
    summary = get(client, "dashboard/summary", "team-a").json
    wanted = {"total_events": 1, "active_servers": 1, "active_grants": 1, "active_sessions": 1}
    assert summary.items() >= wanted.items()


@pytest.mark.parametrize("path", ["analytics/usage", "user/analytics/usage"])
def test_usage_is_of_the_caller_s_namespaces(client: FlaskClient, path: str) -> None:
    """The answer says which these are."""
    usage = get(client, path, "both").json
    assert usage["totals"]["events"] == 2
    assert usage["filters"] == {"namespaces": ["team-a", "team-b"]}
    assert get(client, f"{path}?namespace=team-c", "both").status_code == 403
    assert get(client, f"{path}?namespace=team-b", "both").json["totals"]["events"] == 1


@pytest.mark.parametrize("path", [*LISTS, f"events/{event_id(1)}", "stats", "sources"])
@pytest.mark.parametrize(("key", "status"), [("ingest", 403), ("user", 403), ("none", 401)])
def test_who_may_not_read_gets_nothing(
    client: FlaskClient, path: str, key: str, status: int
) -> None:
    """A credential without the scope, one without a namespace, and none."""
    assert get(client, path, key).status_code == status


def test_a_user_without_namespaces_has_used_nothing(client: FlaskClient) -> None:
    """Its own usage is empty; everybody's is forbidden."""
    own = get(client, "user/analytics/usage", "user")
    assert (own.status_code, own.json["totals"]["events"]) == (200, 0)
    assert own.json["servers"] == []
    assert get(client, "analytics/usage", "user").status_code == 403
    assert get(client, "user/analytics/usage", "ingest").status_code == 403


@pytest.mark.parametrize("path", ["audit/completeness", "dlq"])
def test_what_is_of_all_namespaces_needs_them_all(client: FlaskClient, path: str) -> None:
    """A user of some is refused."""
    assert get(client, path, "both").status_code == 403


def test_events_with_one_id_are_all_told(client: FlaskClient, filled: ClickHouseStore) -> None:
    """A gateway's first; of other namespaces not even how many there are."""
    forged = {"namespace": "team-b", "server": "bank"}
    filled.insert([row(1, forged, producer="forger", log_offset=90, source="forged")])
    path = f"events/{event_id(1)}"
    admin, own, other = (get(client, path, key).json for key in ("admin", "team-a", "both"))
    assert [len(each.get("others", [])) for each in (admin, own, other)] == [1, 0, 1]
    assert admin["others"][0]["producer"] == "forger"

"""Pages of the audit trail."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.adapters.clickhouse_store import ClickHouseStore
from tests.tools.event_rows import NOON, event_id, row
from tests.unit.backend.api.conftest import NewApp

ADMIN = {"x-api-key": "admin"}


@pytest.fixture
def client(store: ClickHouseStore, new_app: NewApp) -> FlaskClient:
    # Of some minutes there are several events, which a page may divide.
    store.insert(
        [row(n, {"server": "shop" if n % 2 else "bank"}, event_time=NOON) for n in range(1, 6)]
        + [row(n, {"server": "shop" if n % 2 else "bank"}) for n in range(6, 12)]
    )
    return new_app(store).test_client()


def page_at(client: FlaskClient, path: str) -> Any:
    answer = client.get(path, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    return answer.json


@pytest.mark.parametrize(("path", "limit"), [("/api/events", 2), ("/api/v1/events/filter", 3)])
def test_following_next_gives_each_event_once(
    client: FlaskClient, store: ClickHouseStore, path: str, limit: int
) -> None:
    """Whatever arrives meanwhile, newer or older."""
    seen: list[str] = []
    following, arriving = f"{path}?limit={limit}", 100
    while following:
        page = page_at(client, following)
        assert len(page["events"]) <= limit
        seen += [e["event_id"] for e in page["events"]]
        following = page.get("next", "")
        assert page["meta"]["has_more"] == bool(following)
        assert page["meta"].get("next_cursor", "") in following
        store.insert([row(arriving, event_time=NOON)])
        arriving += 1
    there = {event_id(n) for n in range(1, 12)}
    assert {found for found in seen if found in there} == there
    assert len(seen) == len(set(seen))


def test_next_keeps_the_filters(client: FlaskClient) -> None:
    """And the limit; times that were relative stay where they were."""
    page = page_at(client, "/api/v1/events?limit=2&server=shop&since=1h&decision=")
    assert page["next"].startswith("/api/v1/events?")
    assert "server=shop" in page["next"]
    assert "since=2026-11-22T11%3A00%3A00.000Z" in page["next"]
    assert "decision" not in page["next"]
    more = page_at(client, page["next"])
    assert len(more["events"]) == 2
    assert {e["server"] for e in page["events"] + more["events"]} == {"shop"}


def test_a_cursor_counts_by_itself(client: FlaskClient) -> None:
    """As a tool that builds its own addresses sends it."""
    cursor = page_at(client, "/api/events?limit=4")["meta"]["next_cursor"]
    rest = page_at(client, f"/api/events?cursor={cursor}")
    assert (len(rest["events"]), rest["meta"]["has_more"]) == (7, False)


def test_an_exact_fit_has_no_more(client: FlaskClient) -> None:
    """No empty page follows the last one."""
    assert page_at(client, "/api/events?limit=11")["meta"] == {"limit": 11, "has_more": False}

"""What every EventStore says of the grants that decided calls."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson

from backend.ports.event_store import EventStore, StoredEvent
from backend.queries import GrantUse
from tests.contract.stored_events import DAY, NOON, event


def call(topic: UUID, n: int, grant: str = "g", **members: Any) -> StoredEvent:
    """A decided call, as the processor stores it."""
    members = {"tool_name": "t", "decision": "allow", "event_id": str(uuid4())} | members
    named = {"matched_grant": grant, "matched_grant_namespace": "ns"} if grant else {}
    payload = orjson.dumps({"request_id": members.get("request_id", "")} | named).decode()
    return event(topic, n, payload=payload, **members)


def test_an_empty_store_knows_of_no_time(store: EventStore) -> None:
    """Neither uses, nor a time from which they would be known."""
    found = store.grant_use(NOON)
    assert (list(found.uses), found.stored_since) == ([], None)


def test_calls_count_by_grant_and_tool(store: EventStore, topic: UUID) -> None:
    """What was allowed, what denied, and when last; not what no grant decided."""
    store.insert(
        [
            call(topic, 1),
            call(topic, 2, decision="deny"),
            call(topic, 3, tool_name="u", event_time=NOON - 2 * DAY),
            call(topic, 4, tool_name="u", decision="deny"),
            call(topic, 5, "other"),
            call(topic, 6, ""),
            call(topic, 7, event_type="mcp.response"),
        ]
    )
    at = NOON + timedelta(milliseconds=1)
    found = store.grant_use(NOON)
    assert found.uses == [
        GrantUse("ns", "g", "t", 1, 1, at + timedelta(milliseconds=1)),
        GrantUse("ns", "g", "u", 0, 1, at + timedelta(milliseconds=3)),
        GrantUse("ns", "other", "t", 1, 0, at + timedelta(milliseconds=4)),
    ]
    assert found.stored_since == NOON - 2 * DAY


def test_the_day_counts_as_a_whole(store: EventStore, topic: UUID) -> None:
    """From the midnight before, in UTC."""
    midnight = NOON.replace(hour=0)
    store.insert(
        [
            call(topic, 1, event_time=midnight),
            call(topic, 2, "before", event_time=midnight - timedelta(milliseconds=1)),
        ]
    )
    assert [use.grant for use in store.grant_use(NOON).uses] == ["g"]


def test_a_request_id_that_is_a_grants_name_hides_nothing(store: EventStore, topic: UUID) -> None:
    """A caller chooses its request id; the store may keep it but once."""
    store.insert([call(topic, 1, request_id="g")])
    assert [(use.grant, use.allowed) for use in store.grant_use(NOON).uses] == [("g", 1)]

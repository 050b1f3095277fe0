"""Outcomes of calls whose producer names its events in a way of its own."""

import csv
import io
import json
from uuid import UUID

import pytest

from backend.ports.event_store import EventStore
from backend.queries import EventFilter, ExportForm
from tests.contract.stored_events import DAY, NOON, event, id_of

ALL = EventFilter()
CALL = {"event_type": "acme.call", "server": "s", "namespace": "n", "declared_tool": "t"}
TOLD = {"latency_ms": 2500.5, "status": 200}


@pytest.fixture
def calls(store: EventStore, topic: UUID) -> EventStore:
    """One call, its outcome apart, of a gateway with another MCP_SENTINEL_EVENT_TYPE."""
    call = CALL | {"decision": "allow", "request_id": "r", "payload": '{"decision":"allow"}'}
    outcome = CALL | {"event_type": "mcp.response", "outcome_of": id_of(1)}
    store.insert([event(topic, 1, **call)])
    store.insert([event(topic, 2, payload=json.dumps(TOLD), **outcome)])
    return store


def test_single_events_have_their_outcome(calls: EventStore) -> None:
    """On pages, by id, and by request."""
    wanted = {"decision": "allow", **TOLD}
    for asked in (ALL, EventFilter(event_type="acme.call"), EventFilter(request_id="r")):
        assert [json.loads(e.payload) for e in calls.page(asked, 9).events] == [wanted]
    assert [json.loads(e.payload) for e in calls.by_id(id_of(1))] == [wanted]
    assert [json.loads(e.payload) for e in calls.by_request("r")] == [wanted]


def test_exports_have_outcomes(calls: EventStore) -> None:
    """In either form."""
    wanted = {"decision": "allow", **TOLD}
    (line,) = b"".join(calls.export(ALL, ExportForm.NDJSON)).splitlines()
    assert json.loads(line)["payload"] == wanted
    text = b"".join(calls.export(ALL, ExportForm.CSV)).decode()
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert json.loads(row["payload"]) == wanted


@pytest.mark.parametrize("since", [NOON.replace(hour=0), NOON - DAY / 24])
def test_usage_counts_a_call_once_with_its_latency(calls: EventStore, since: object) -> None:
    """By whole days and by the second alike."""
    usage = calls.usage(EventFilter(since=since), 10)  # type: ignore[arg-type]
    assert (usage.totals.events, usage.totals.allowed) == (1, 1)
    assert usage.totals.latency.completions == 1
    assert usage.totals.latency.p50 == pytest.approx(2500.5, rel=0.05)
    assert [each.tool_name for each in usage.latencies] == ["t"]
    assert calls.summary().events == 1

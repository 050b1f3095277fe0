"""What every EventStore writes as an export."""

import csv
import io
import json
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.adapters import clickhouse_events
from backend.adapters.clickhouse_export import CHUNK
from backend.api.event_view import shown
from backend.ports.event_store import EventStore, StoredEvent
from backend.queries import FILTER_TEXTS, EventFilter, ExportForm
from tests.contract.event_model import filters, marked, stored
from tests.contract.stored_events import NOON, event, id_of

ALL = EventFilter()
LONG = 100_000
STRANGE = (
    "",
    "=1+1",
    "+1",
    "-1",
    "@x",
    "\tx",
    "\rx",
    "\nx",
    "\uff1d1",
    "\uff20x",
    "'",
    '"',
    "a,b",
    "a\nb",
    "\x00",
    "é/😀",
    "\\N",
)


def lines(store: EventStore, asked: EventFilter) -> list[bytes]:
    return b"".join(store.export(asked, ExportForm.NDJSON)).splitlines()


def table(store: EventStore, asked: EventFilter) -> list[dict[str, str]]:
    text = b"".join(store.export(asked, ExportForm.CSV)).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    events=st.lists(stored(), min_size=5, max_size=30),
    questions=st.lists(filters(), min_size=2, max_size=4),
)
def test_an_export_is_all_pages(
    store: EventStore, events: list[StoredEvent], questions: list[EventFilter]
) -> None:
    """Each line is what a page shows, byte for byte, in the same order but for ties."""
    mark, rows = marked(events)
    store.insert(rows)
    for question in questions:
        asked = replace(question, cluster=mark)
        expected = [msgspec.json.encode(shown(e)) for e in store.page(asked, LONG).events]
        assert sorted(lines(store, asked)) == sorted(expected)
        times = [json.loads(line)["timestamp"] for line in lines(store, asked)]
        assert times == sorted(times, reverse=True)
        ids = [row["event_id"] for row in table(store, asked)]
        assert sorted(ids) == sorted(msgspec.json.decode(line)["event_id"] for line in expected)


@pytest.mark.parametrize("text", STRANGE)
def test_any_text_is_exported(store: EventStore, topic: UUID, text: str) -> None:
    """JSON has it as it is; in CSV nothing begins like a formula."""
    payload = json.dumps({"text": text}, ensure_ascii=False)
    texts = dict.fromkeys(FILTER_TEXTS, text or "x") | {"event_type": "own"}
    store.insert([event(topic, 1, payload=payload, **texts)])
    (line,) = lines(store, ALL)
    (expected,) = store.page(ALL, 2).events
    assert json.loads(line) == json.loads(msgspec.json.encode(shown(expected)))
    (row,) = table(store, ALL)
    guarded = f"'{text}" if text[:1] in tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20") else text
    assert row["human_id"] == row["tool_name"] == (guarded if text else "x")
    assert json.loads(row["payload"]) == {"text": text}


def test_a_payload_is_one_line(store: EventStore, topic: UUID) -> None:
    """Line ends between its members go; a number below zero is no formula."""
    store.insert([event(topic, 1, payload='{\n "n":\r\n[1,\n2]\n}'), event(topic, 2, payload="-5")])
    first, second = (json.loads(line)["payload"] for line in lines(store, ALL))
    assert (first, second) == (-5, {"n": [1, 2]})
    assert next(row["payload"] for row in table(store, ALL)) == "'-5"


def test_a_call_is_exported_with_its_outcome(store: EventStore, topic: UUID) -> None:
    """As on a page; of its own producer, and no further."""
    told = '{"latency_ms":2500.5,"status":200,"other":1}'
    outcome = {"event_type": "mcp.response", "payload": told}
    store.insert([event(topic, n, payload=p) for n, p in enumerate(('{"status":500}', "{}", "[]"))])
    store.insert([event(topic, 10 + n, outcome_of=id_of(n), **outcome) for n in range(3)])
    store.insert([event(topic, 20, outcome_of=id_of(4), producer="forger", **outcome)])
    store.insert([event(topic, 4)])
    payloads = [json.loads(line)["payload"] for line in lines(store, ALL)]
    both = {"latency_ms": 2500.5, "status": 200}
    assert payloads == [{"n": 1}, [], both, both | {"status": 500}]
    shown_ones = [json.loads(each.payload) for each in store.page(ALL, 10).events]
    assert shown_ones == payloads


def test_many_open_calls_are_exported_with_their_outcomes(store: EventStore, topic: UUID) -> None:
    """More than their ids could be asked for by name."""
    count = 1100
    store.insert([event(topic, n, payload="{}") for n in range(count)])
    told = [
        event(
            topic,
            count + n,
            event_type="mcp.response",
            outcome_of=id_of(n),
            payload=f'{{"status":{n}}}',
        )
        for n in range(0, count, 10)
    ]
    store.insert(told)
    payloads = [json.loads(line)["payload"] for line in lines(store, ALL)]
    assert payloads[::-1] == [{} if n % 10 else {"status": n} for n in range(count)]


def test_a_long_export_comes_in_chunks(store: EventStore, topic: UUID) -> None:
    """Each event once, though their boundaries lie anywhere and events arrive meanwhile."""
    count = 2 * CHUNK + 7
    rows = [
        event(topic, n, event_time=NOON + timedelta(milliseconds=n // 3), source=str(n))
        for n in range(count)
    ]
    store.insert(rows)
    chunks = []
    for chunk in store.export(ALL, ExportForm.NDJSON):
        chunks.append(chunk)
        arrived = event(topic, count + len(chunks), event_time=NOON + timedelta(hours=1))
        store.insert([arrived])
    assert len(chunks) == 3
    found = [int(json.loads(line)["source"]) for line in b"".join(chunks).splitlines()]
    assert sorted(found) == list(range(count))


def test_large_payloads_come_in_smaller_chunks(
    store: EventStore, topic: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends them makes neither pages nor exports fail; each is bounded in memory."""
    monkeypatch.setattr(clickhouse_events, "PAGE_BYTES", 48 << 20)
    payload = f'"{"x" * (1 << 20)}"'
    store.insert([event(topic, n, payload=payload) for n in range(60)])
    page = store.page(ALL, 1000)
    assert page.next
    assert 0 < len(page.events) < 60
    pages = [page]
    while following := pages[-1].next:
        pages.append(store.page(ALL, 1000, following))
    found = [each.log_offset for page in pages for each in page.events]
    assert found == list(range(60))[::-1]
    ids = [json.loads(line)["event_id"] for line in lines(store, ALL)]
    assert ids == [id_of(n) for n in range(60)][::-1]


def test_an_empty_export_is_empty(store: EventStore) -> None:
    """A table still has its header."""
    assert lines(store, ALL) == []
    (header, *rest) = store.export(ALL, ExportForm.CSV)
    assert header.startswith(b"timestamp,source,event_type,")
    assert b"".join(rest) == b""

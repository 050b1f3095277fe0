"""What every EventStore answers to the api: pages, single events, counts."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.adapters.clickhouse_client import Server
from backend.adapters.clickhouse_readers import Readers, Together
from backend.ports.event_store import EventStore, StoredEvent
from backend.queries import FILTER_TEXTS, Count, CountedBy, EventFilter
from extauthz.core.errors import TooSlow
from tests.contract.event_model import filters, marked, matching, order, stored
from tests.contract.stored_events import DAY, NOON, event, id_of

ALL = EventFilter()
NASTY = (
    "' OR 1=1 --",
    "\\",
    "\\'; DROP TABLE events; --",
    "a\tb\nc\rd\x00e",
    "{source:String} %s %(since)s {x}",
    "\\N",
    "NULL",
    '"`é😀`"',
    "['a','b']",
)
ON_ONE_STORE = settings(
    max_examples=6,  # each inserts, which costs most
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def offsets(events: Sequence[StoredEvent]) -> list[int]:
    return [each.log_offset for each in events]


def paged(store: EventStore, asked: EventFilter, limit: int) -> Iterator[list[StoredEvent]]:
    after = None
    while True:
        page = store.page(asked, limit, after)
        yield list(page.events)
        if page.next is None:
            return
        after = page.next


@ON_ONE_STORE
@given(
    events=st.lists(stored(), min_size=5, max_size=30),
    questions=st.lists(st.tuples(filters(), st.integers(1, 6)), min_size=5, max_size=8),
)
def test_pages_hold_what_matches(
    store: EventStore, events: list[StoredEvent], questions: list[tuple[EventFilter, int]]
) -> None:
    """Any filter on any events finds what a naive one finds, page by page, newest first."""
    mark, rows = marked(events)
    store.insert(rows)
    for question, limit in questions:
        asked = replace(question, cluster=mark)
        expected = matching(rows, asked)
        pages = list(paged(store, asked, limit))
        found = [each for page in pages for each in page]
        assert [order(each) for each in found] == [order(each) for each in expected]
        assert sorted(offsets(found)) == sorted(offsets(expected))
        assert all(pages[:-1]), "an empty page in the middle"


@ON_ONE_STORE
@given(events=st.lists(stored(), min_size=8, max_size=20), limit=st.integers(1, 4))
def test_paging_is_stable_while_events_arrive(
    store: EventStore, events: list[StoredEvent], limit: int
) -> None:
    """Each event that was there at the first page comes once, whatever arrives meanwhile."""
    mark, rows = marked(events)
    arriving, present = [rows[::3], rows[1::3]], rows[2::3]
    store.insert(present)
    found: list[StoredEvent] = []
    for page in paged(store, EventFilter(cluster=mark), limit):
        found += page
        if arriving:
            store.insert(arriving.pop())
    assert len(found) == len(set(offsets(found)))
    assert set(offsets(found)) >= set(offsets(matching(present, EventFilter())))
    assert [order(each) for each in found] == sorted(map(order, found), reverse=True)


def test_a_last_page_has_no_next(store: EventStore, topic: UUID) -> None:
    """Also where it is full to the last event."""
    store.insert([event(topic, n) for n in range(4)])
    assert store.page(ALL, 4).next is None
    assert store.page(ALL, 5).next is None
    first = store.page(ALL, 2)
    assert first.next
    assert store.page(ALL, 2, first.next).next is None


def test_producers_cannot_hide_each_other_s_events(store: EventStore, topic: UUID) -> None:
    """Events with the same time and id lie on one page, though it becomes longer than asked."""
    rows = [event(topic, n, event_id=id_of(1), event_time=NOON, producer=f"p{n}") for n in range(3)]
    store.insert([*rows, event(topic, 8, event_time=NOON + DAY), event(topic, 9, event_time=NOON)])
    pages = [offsets(page) for page in paged(store, ALL, 2)]
    assert sorted(offset for page in pages for offset in page) == [0, 1, 2, 8, 9]


@pytest.mark.parametrize("value", NASTY)
def test_every_text_is_a_value(store: EventStore, topic: UUID, value: str) -> None:
    """What looks like SQL, a parameter or an escape is compared as it stands."""
    texts = dict.fromkeys(FILTER_TEXTS, value)
    store.insert([event(topic, 1, **texts), event(topic, 2)])
    for name in FILTER_TEXTS:
        asked = EventFilter(**{"event_type": value, name: value})
        assert offsets(store.page(asked, 10).events) == [1], name
    assert offsets(store.page(EventFilter(**texts), 10).events) == [1]
    assert offsets(store.page(EventFilter(within=frozenset({value})), 10).events) == [1]
    assert offsets(store.by_request(value)) == [1]
    assert store.summary(frozenset({value})).events == 1


def test_an_end_of_time_is_excluded_and_a_beginning_is_not(store: EventStore, topic: UUID) -> None:
    """To the millisecond; parts of one round up, for events have none."""
    store.insert([event(topic, n) for n in range(5)])
    at = [NOON + timedelta(milliseconds=n) for n in range(5)]
    half = timedelta(microseconds=500)

    def found(**times: object) -> list[int]:
        return offsets(store.page(EventFilter(**times), 10).events)

    assert found(since=at[1], until=at[3]) == [2, 1]
    assert found(since=at[1] + half, until=at[3] + half) == [3, 2]
    assert found(since=at[0].replace(year=1), until=at[0].replace(year=9999)) == [4, 3, 2, 1, 0]
    assert found(until=at[0].replace(year=1)) == []


def test_an_event_is_found_by_its_id(store: EventStore, topic: UUID) -> None:
    """In any spelling, wherever its time lies; what is no UUID is nowhere."""
    strange, late = str(UUID(int=5)), id_of(3)
    store.insert([event(topic, 1), event(topic, 2, event_id=strange)])
    store.insert([event(topic, 3, event_id=late, event_time=NOON - 40 * DAY)])
    assert offsets(store.by_id(id_of(1))) == [1]
    assert offsets(store.by_id(id_of(1).upper())) == [1]
    assert offsets(store.by_id(strange)) == [2]
    assert offsets(store.by_id(late)) == [3]
    for missing in (id_of(9), "ffffffff-ffff-7fff-bfff-ffffffffffff", str(uuid4()), "x", "", "'"):
        assert list(store.by_id(missing)) == []


def test_an_event_of_another_namespace_is_not_found(store: EventStore, topic: UUID) -> None:
    """As if it did not exist."""
    store.insert([event(topic, 1, namespace="own"), event(topic, 2)])
    assert offsets(store.by_id(id_of(1), frozenset({"own"}))) == [1]
    for within in (frozenset({"other"}), frozenset[str]()):
        assert list(store.by_id(id_of(1), within)) == []
    assert store.page(EventFilter(within=frozenset()), 10).events == []
    assert list(store.by_id(id_of(2), frozenset({"own"}))) == []


def test_who_sends_an_event_with_a_known_id_hides_nothing(store: EventStore, topic: UUID) -> None:
    """All that have the id are there, a gateway's first; in its namespace each finds its own."""
    store.insert([event(topic, 1, producer="forger", namespace="b", event_time=NOON)])
    again = {"event_id": id_of(1), "event_time": NOON + timedelta(seconds=1)}
    store.insert([event(topic, 2, producer="gateway", namespace="a", sequence=5, **again)])
    store.insert([event(topic, 3, producer="thief", namespace="b", sequence=1, **again)])
    assert offsets(store.by_id(id_of(1))) == [2, 3, 1]
    assert offsets(store.by_id(id_of(1), frozenset({"a"}))) == [2]
    assert offsets(store.by_id(id_of(1), frozenset({"b"}))) == [3, 1]


def test_calls_of_one_request_come_in_order(store: EventStore, topic: UUID) -> None:
    """Oldest first, without internal types, of the caller's namespaces."""
    store.insert([event(topic, n, request_id="r", namespace="own") for n in (3, 1)])
    store.insert([event(topic, 2, request_id="r"), event(topic, 4, request_id="s")])
    store.insert([event(topic, 5, request_id="r", event_type="mcp.response")])
    store.insert([event(topic, 6)])
    assert offsets(store.by_request("r")) == [1, 2, 3]
    assert offsets(store.by_request("r", frozenset({"own"}))) == [1, 3]
    assert list(store.by_request("t")) == []
    assert list(store.by_request("")) == []


def outcome_of(topic: UUID, offset: int, call: int, **members: object) -> StoredEvent:
    payload = json.dumps({"decision_id": id_of(call), "latency_ms": 2500.5, "status": 200})
    given = {"payload": payload, **members}
    return event(topic, offset, event_type="mcp.response", outcome_of=id_of(call), **given)


def test_a_call_has_the_outcome_that_came_apart(store: EventStore, topic: UUID) -> None:
    """Merged into its payload, where the call says nothing else, and no event of its own."""
    store.insert([event(topic, 1, request_id="r", payload='{"status":500,"n":1}')])
    store.insert([event(topic, 2), outcome_of(topic, 7, 1, event_time=NOON + DAY / 2)])
    page = store.page(ALL, 10)
    assert offsets(page.events) == [2, 1]
    merged = {"status": 500, "n": 1, "latency_ms": 2500.5}
    assert json.loads(page.events[1].payload) == merged
    assert json.loads(store.by_id(id_of(1))[0].payload) == merged
    assert json.loads(store.by_request("r")[0].payload) == merged
    alone = store.page(EventFilter(event_type="mcp.response"), 10)
    assert offsets(alone.events) == [7]


def test_nobody_adds_an_outcome_to_another_s_call(store: EventStore, topic: UUID) -> None:
    """An outcome belongs to a call of its own producer."""
    store.insert([event(topic, 1, producer="p"), outcome_of(topic, 7, 1, producer="q")])
    assert store.by_id(id_of(1))[0].payload == '{"n":1}'


@pytest.mark.parametrize("payload", ["[1]", '"latency"', "7", "{}", " {\n } "])
def test_any_payload_may_meet_an_outcome(store: EventStore, topic: UUID, payload: str) -> None:
    """Only objects take one."""
    store.insert([event(topic, 1, payload=payload), outcome_of(topic, 7, 1)])
    found = json.loads(store.by_id(id_of(1))[0].payload)
    told = {"latency_ms": 2500.5, "status": 200}
    assert found == (told if "{" in payload else json.loads(payload))


def test_counts_are_greatest_first(store: EventStore, topic: UUID) -> None:
    """By source and by event type, internal ones too; of some namespaces alone."""
    assert store.counts_by(CountedBy.SOURCE) == []
    store.insert([event(topic, n, namespace="own") for n in range(3)])
    store.insert([event(topic, 5, event_type="audit.gap", source="b")])
    store.insert([event(topic, 6, event_type="mcp.response", source="a")])
    assert store.counts_by(CountedBy.SOURCE) == [
        Count("mcp-proxy", 3),
        Count("a", 1),
        Count("b", 1),
    ]
    types = [count.value for count in store.counts_by(CountedBy.EVENT_TYPE)]
    assert types == ["mcp.request", "audit.gap", "mcp.response"]
    own = frozenset({"own"})
    assert store.counts_by(CountedBy.EVENT_TYPE, own) == [Count("mcp.request", 3)]
    assert store.counts_by(CountedBy.EVENT_TYPE, frozenset()) == []


def test_a_summary_tells_of_calls(store: EventStore, topic: UUID) -> None:
    """Servers are told apart by namespace; internal types do not count."""
    empty = store.summary()
    assert (empty.events, empty.active_servers, empty.latest) == (0, 0, None)
    store.insert([event(topic, 1, server="s", namespace="a"), event(topic, 2)])
    store.insert([event(topic, 3, server="s", namespace="b")])
    store.insert([event(topic, 9, server="t", namespace="a", event_type="gateway.start")])
    whole = store.summary()
    assert (whole.events, whole.active_servers) == (3, 2)
    assert whole.latest
    assert whole.latest.log_offset == 3
    own = store.summary(frozenset({"a"}))
    assert (own.events, own.active_servers) == (1, 1)


def test_a_question_over_its_budget_is_cancelled(store: EventStore, store_url: str) -> None:
    """It ends in time, says what to do, and leaves the connection as it was."""
    readers = Readers(Server(store_url, ""), answer_seconds=1)
    with pytest.raises(TooSlow, match="`since`"):
        readers.rows("SELECT sum(sipHash64(number)) FROM numbers({n:UInt64})", {"n": 10**12})
    assert readers.rows("SELECT 1", {}) == [(1,)]
    with pytest.raises(TooSlow):
        readers.text("SELECT sum(sipHash64(number)) FROM numbers(1000000000000)", {}, "CSV")
    readers.close()


def test_several_questions_have_one_budget(store: EventStore, store_url: str) -> None:
    """However short each of them is."""
    readers = Readers(Server(store_url, ""))
    together = Together(readers, 0.2)

    def ask_on() -> None:
        while True:
            assert together.rows("SELECT 1", {}) == [(1,)]

    with pytest.raises(TooSlow, match="narrow the time"):
        ask_on()
    readers.close()

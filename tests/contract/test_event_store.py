"""What every EventStore must do, run against each adapter.

chDB opens one folder at a time in a process: each test closes its store.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.ports import EventStore, StoredEvent
from extauthz.core.errors import Invalid

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NONE: frozenset[str] = frozenset()


def chdb(folder: Path) -> EventStore:
    return ClickHouseStore(f"chdb://{folder / 'store'}")


@pytest.fixture(params=[chdb], ids=lambda adapter: adapter.__name__)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    opened: EventStore = request.param(tmp_path)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def topic() -> UUID:
    return uuid4()


def event(topic: UUID, offset: int, **members: object) -> StoredEvent:
    plain = StoredEvent(
        event_time=NOON + timedelta(milliseconds=offset),
        event_id=f"event-{offset}",
        source="mcp-proxy",
        event_type="mcp.request",
        payload='{"n":1}',
        topic_id=topic,
        log_partition=0,
        log_offset=offset,
    )
    return structs.replace(plain, **members)  # type: ignore[arg-type]


def test_a_row_comes_back_whole(store: EventStore, topic: UUID) -> None:
    """Every member of an event survives the store, byte for byte."""
    whole = StoredEvent(
        event_time=datetime(2026, 11, 22, 12, 0, 0, 123000, tzinfo=UTC),
        event_id="01a2047a-b530-7323-92fc-da63a5512313",
        source="mcp-proxy",
        event_type="mcp.request",
        payload='{"text":"\\u0000 é \\" \\\\ \\n \U0001f600","n":1.50,"list":[1,null,true]}',
        topic_id=topic,
        log_partition=3,
        log_offset=2**53 + 1,
        producer="p",
        trace_id="t",
        server="s'; DROP TABLE events",
        namespace="n",
        team_id="te",
        cluster="c",
        human_id="\x00\t\n",
        agent_id="é",
        session_id="se",
        decision="allow",
        reason="allowed",
        tool_name="tool",
        declared_tool="declared",
        outcome_of="o",
    )
    store.insert([whole])
    assert list(store.recent(10, NONE)) == [whole]


@pytest.mark.parametrize("payload", ['"text"', "[1,2]", "0", "true", '{"a":{"b":[]}}'])
def test_any_payload_is_kept(store: EventStore, topic: UUID, payload: str) -> None:
    """The payload is JSON text of any kind."""
    store.insert([event(topic, 1, payload=payload)])
    assert store.recent(1, NONE)[0].payload == payload


def test_recent_is_newest_first_and_bounded(store: EventStore, topic: UUID) -> None:
    """The newest come first, whatever the order of the inserts; some types may be left out."""
    store.insert([event(topic, n) for n in (3, 1, 2)])
    store.insert([event(topic, 9, event_type="mcp.response")])
    assert [e.position.offset for e in store.recent(2, NONE)] == [9, 3]
    without = store.recent(2, frozenset({"mcp.response"}))
    assert [e.position.offset for e in without] == [3, 2]


def test_present_names_what_is_stored(store: EventStore, topic: UUID) -> None:
    """Only offsets of that topic and partition, and of that range, its ends included."""
    store.insert([event(topic, n) for n in (1, 2, 5)])
    store.insert([event(topic, 7, log_partition=1, log_offset=7)])
    assert store.present(topic, 0, 2, 5) == {2, 5}
    assert store.present(topic, 0, 2, 4) == {2}
    assert store.present(topic, 0, 6, 100) == frozenset()
    assert store.present(topic, 1, 0, 100) == {7}
    assert store.present(uuid4(), 0, 0, 100) == frozenset()


def test_last_offset(store: EventStore, topic: UUID) -> None:
    """Beyond it nothing of that topic and partition is stored."""
    assert store.last_offset(topic, 0) == -1
    store.insert([event(topic, n) for n in (0, 5, 2)])
    store.insert([event(topic, 7, log_partition=1, log_offset=7)])
    assert (store.last_offset(topic, 0), store.last_offset(topic, 1)) == (5, 7)
    assert store.last_offset(uuid4(), 0) == -1


def test_known_event_ids(store: EventStore, topic: UUID) -> None:
    """Ids are looked up among the events of a time."""
    store.insert([event(topic, 1), event(topic, 2)])
    day = timedelta(days=1)
    asked = ["event-1", "event-3"]
    assert store.known_event_ids(asked, NOON - day, NOON + day) == {"event-1"}
    assert store.known_event_ids(asked, NOON - 2 * day, NOON - day) == frozenset()
    assert store.known_event_ids([], NOON, NOON) == frozenset()
    many = [f"event-{n}" for n in range(5000)]
    assert store.known_event_ids(many, NOON - day, NOON + day) == {"event-1", "event-2"}


def test_outcomes_are_found_by_their_call(store: EventStore, topic: UUID) -> None:
    """An `mcp.response` is found by the id of its `mcp.request`."""
    store.insert(
        [
            event(topic, 1),
            event(topic, 2, event_type="mcp.response", outcome_of="event-1", payload='{"s":200}'),
        ]
    )
    assert store.outcomes(["event-1", "event-2"], NOON) == {"event-1": '{"s":200}'}
    assert store.outcomes([], NOON) == {}


def test_total_leaves_types_out(store: EventStore, topic: UUID) -> None:
    """Statistics count without the internal types."""
    store.insert([event(topic, 1), event(topic, 2, event_type="audit.gap")])
    assert store.total(NONE) == 2
    assert store.total(frozenset({"audit.gap"})) == 1


def test_one_insert_may_span_many_days(store: EventStore, topic: UUID) -> None:
    """Old events of many days in one batch are stored, every one."""
    rows = [event(topic, n, event_time=NOON - timedelta(days=n)) for n in range(200)]
    store.insert(rows)
    assert store.total(NONE) == 200
    assert len(store.present(topic, 0, 0, 1000)) == 200


def test_a_row_that_cannot_be_stored_is_invalid(store: EventStore, topic: UUID) -> None:
    """The store says that the data is at fault, and quotes none of it."""
    with pytest.raises(Invalid) as raised:
        store.insert([event(topic, -1, payload='{"secret":"hunter2"}')])
    assert "hunter2" not in str(raised.value)


def test_migrating_again_changes_nothing(store: EventStore, topic: UUID) -> None:
    """A schema that is up to date is left alone, with its rows."""
    store.insert([event(topic, 1)])
    store.migrate()
    assert store.total(NONE) == 1


@pytest.mark.parametrize("adapter", [chdb])
def test_rows_outlive_the_process_s_handle(adapter: object, tmp_path: Path, topic: UUID) -> None:
    """What was inserted is there after the store was closed and opened again."""
    first = chdb(tmp_path)
    first.migrate()
    first.insert([event(topic, 1)])
    first.close()
    second = chdb(tmp_path)
    second.migrate()
    assert second.total(NONE) == 1
    second.close()

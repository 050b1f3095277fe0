"""What every EventStore must do, run against each adapter: all but the api's questions."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from backend.gateway_runs import Hole
from backend.ports.event_store import EventStore, StoredEvent
from backend.queries import EventFilter
from extauthz.core.errors import Invalid
from tests.contract.stored_events import DAY, NOON, event, id_of

ALL = EventFilter()
Opener = Callable[[], EventStore]
NONE: frozenset[str] = frozenset()
RUN = "01a20320-a200-7348-bced-e943f373ca53"
LATER_RUN = "01a20321-a200-7348-bced-e943f373ca53"


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
        gateway="gw",
        gateway_start=RUN,
        sequence=2**64 - 1,
        resent=True,
        request_id="r\\'\"",
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
    assert list(store.page(ALL, 10).events) == [whole]


@pytest.mark.parametrize(
    "payload", ['"text"', "[1,2]", "0", "true", '{"a":{"b":[]}}', r'"\ud800\u0000"']
)
def test_any_payload_is_kept(store: EventStore, topic: UUID, payload: str) -> None:
    """The payload is JSON text of any kind."""
    store.insert([event(topic, 1, payload=payload)])
    assert store.page(ALL, 1).events[0].payload == payload


OWN = f'{{"decision_id":"{id_of(1)}","request_id":"r"'


@pytest.mark.parametrize(
    ("payload", "members"),
    [
        (OWN + "}", {}),
        (OWN + f',"a":"{id_of(1)}","b":"r","c":[ 1.50, "r" ]}}', {}),
        (OWN + r',"a":"\u007fe","b":"\u007fr","c":"\"\\"}', {}),
        (OWN + "}", {"request_id": "s"}),
        (OWN.upper() + "}", {"event_id": id_of(1).upper()}),
        (OWN.replace('"r"', '""') + "}", {"request_id": ""}),
        (OWN.replace('"r"', r'"\\7fe"') + "}", {"request_id": r"\7fe"}),
        (OWN.replace('"r"', r'"\u007fe"') + "}", {"request_id": "\x7fe"}),
        (OWN.replace(id_of(1), id_of(1).upper()) + "}", {"event_id": id_of(1).upper()}),
        (f'"{id_of(1)}"', {}),
    ],
)
def test_ids_in_a_payload_come_back(
    store: EventStore, topic: UUID, payload: str, members: dict[str, str]
) -> None:
    """A payload that names the ids of its own row is kept to the byte."""
    store.insert([event(topic, 1, **{"payload": payload, "request_id": "r", **members})])
    assert store.page(ALL, 1).events[0].payload == payload


def test_a_payload_with_a_raw_delete_is_the_same_json(store: EventStore, topic: UUID) -> None:
    """The character that stands for ids comes back escaped."""
    for request_id in ("r", "\x7fe"):
        payload = OWN.replace('"r"', f'"{request_id}"') + ',"a":"\x7fr"}'
        store.insert([event(topic, 1, request_id=request_id, payload=payload)])
    told = [e.payload for e in store.page(ALL, 2).events]
    assert sorted(told, key=len) == [
        OWN + r',"a":"\u007fr"}',
        OWN.replace('"r"', r'"\u007fe"') + r',"a":"\u007fr"}',
    ]


def test_present_names_what_is_stored(store: EventStore, topic: UUID) -> None:
    """Only offsets of that topic and partition, and of that range."""
    store.insert([event(topic, n) for n in (1, 2, 5)])
    store.insert([event(topic, 7, log_partition=1)])
    assert store.present(topic, 0, 2, 100) == {2, 5}
    assert store.present(topic, 0, 0, 4) == {1, 2}
    assert store.present(topic, 0, 6, 100) == frozenset()
    assert store.present(topic, 1, 0, 100) == {7}
    assert store.present(uuid4(), 0, 0, 100) == frozenset()


def test_last_offset_is_the_greatest(store: EventStore, topic: UUID) -> None:
    """Of that topic and partition; -1 where nothing is stored."""
    assert store.last_offset(topic, 0) == -1
    store.insert([event(topic, 0)])
    assert store.last_offset(topic, 0) == 0
    store.insert([event(topic, n) for n in (5, 2)])
    store.insert([event(topic, 7, log_partition=1)])
    assert store.last_offset(topic, 0) == 5
    assert store.last_offset(topic, 1) == 7


def keys_of(*numbers: int, producer: str = "") -> set[tuple[str, str]]:
    return {(producer, id_of(number)) for number in numbers}


def test_known_events(store: EventStore, topic: UUID) -> None:
    """Ids are looked up among a producer's events of a time, both ends included."""
    store.insert([event(topic, 1), event(topic, 2)])
    asked = [*keys_of(1), *keys_of(3)]
    assert store.known_events(asked, NOON - DAY, NOON + DAY) == keys_of(1)
    at = NOON + timedelta(milliseconds=1)
    assert store.known_events(asked, at, at) == keys_of(1)
    assert store.known_events(asked, NOON - 2 * DAY, NOON - DAY) == frozenset()
    assert store.known_events([], NOON, NOON) == frozenset()
    many = [*keys_of(*range(5000))]
    assert store.known_events(many, NOON - DAY, NOON + DAY) == keys_of(1, 2)
    others = [*keys_of(1, producer="p")]
    assert store.known_events(others, NOON - DAY, NOON + DAY) == frozenset()


def test_an_id_is_known_however_it_is_spelt(store: EventStore, topic: UUID) -> None:
    """The same UUID in capitals is the same id; what is no UUID is unknown."""
    store.insert([event(topic, 10, event_id=id_of(10).upper())])
    ids = [id_of(10), id_of(10).upper(), id_of(10).replace("-", ""), "nonsense"]
    asked = [("", event_id) for event_id in ids]
    assert store.known_events(asked, NOON - DAY, NOON + DAY) == set(asked[:3])
    assert store.page(ALL, 1).events[0].event_id == id_of(10)


def test_resent_events(store: EventStore, topic: UUID) -> None:
    """Only marked events, of that partition and time on."""
    store.insert([event(topic, 1), event(topic, 2, resent=True)])
    store.insert([event(topic, 3, resent=True, log_partition=1)])
    store.insert([event(topic, 4, resent=True, event_time=NOON - 2 * DAY)])
    store.insert([event(topic, 5, resent=True, producer="p")])
    recent = keys_of(2) | keys_of(5, producer="p")
    assert store.resent_events(topic, 0, NOON - DAY) == recent
    assert store.resent_events(topic, 0, NOON - 3 * DAY) == recent | keys_of(4)


def test_duplicates_are_counted(store: EventStore, topic: UUID) -> None:
    """Rows beyond the first of a producer's event_id, wherever they lie."""
    store.insert([event(topic, 1), event(topic, 2)])
    assert store.duplicates(NOON) == 0
    store.insert([event(topic, 3, event_id=id_of(1)), event(topic, 4, event_id=id_of(1))])
    store.insert([event(topic, 5, event_id=id_of(2), event_time=NOON + DAY)])
    assert store.duplicates(NOON) == 3
    assert store.duplicates(NOON + DAY / 2) == 0
    store.insert([event(topic, 6, event_id=id_of(1), producer="p")])
    assert store.duplicates(NOON) == 3


def numbered(topic: UUID, sequence: int, at: datetime, **members: object) -> StoredEvent:
    """An event of a gateway; no other has its id."""
    given = {"producer": "p", "gateway": "gw", "gateway_start": RUN, **members}
    return event(topic, 0, event_id=str(uuid4()), sequence=sequence, event_time=at, **given)


def minutes(count: float) -> datetime:
    return NOON + timedelta(minutes=count)


def test_runs_tell_first_last_and_how_many(store: EventStore, topic: UUID) -> None:
    """Late rows and duplicates change neither numbers nor ends; `rows` tells of duplicates."""
    store.insert([numbered(topic, n, minutes(n)) for n in (2, 3, 40)])
    store.insert([numbered(topic, 1, minutes(1), event_type="gateway.start", server="s")])
    store.insert([numbered(topic, n, minutes(n)) for n in (3, 3, 40)])
    store.insert([numbered(topic, 41, minutes(41), event_type="gateway.heartbeat", namespace="n")])
    (run,) = store.gateway_runs(NOON, NOON + DAY)
    assert (run.producer, run.gateway, run.gateway_start) == ("p", "gw", RUN)
    assert (run.namespace, run.server) == ("n", "s")
    assert (run.first, run.last, run.present, run.rows) == (1, 41, 5, 8)
    assert (run.first_at, run.last_at) == (minutes(1), minutes(41))
    assert run.started
    assert run.heartbeats == 1


def test_runs_are_of_that_time_alone(store: EventStore, topic: UUID) -> None:
    """Both ends are included, and neither is rounded."""
    store.insert([numbered(topic, n + 1, minutes(n)) for n in range(60)])
    windows = {
        (0, 60): range(60),
        (0.5, 60): range(1, 60),
        (5, 25): range(5, 26),
        (10, 20): range(10, 21),
        (9.9, 19.9): range(10, 20),
        (12, 13): range(12, 14),
        (12.2, 12.8): (),
        (-100, 100): range(60),
    }
    for (since, until), numbers in windows.items():
        runs = store.gateway_runs(minutes(since), minutes(until))
        found = [(run.first, run.last, run.rows) for run in runs]
        assert found == ([(numbers[0] + 1, numbers[-1] + 1, len(numbers))] if numbers else [])


def test_runs_are_told_apart(store: EventStore, topic: UUID) -> None:
    """By producer and start: nobody's events fill another's holes."""
    store.insert([numbered(topic, 1, NOON), numbered(topic, 3, NOON)])
    store.insert([numbered(topic, 2, NOON, producer="q")])
    store.insert([numbered(topic, 2, NOON, gateway_start=LATER_RUN, gateway="ga")])
    runs = store.gateway_runs(NOON, NOON + DAY)
    assert [(r.producer, r.gateway, r.gateway_start, r.present) for r in runs] == [
        ("p", "ga", LATER_RUN, 1),
        ("p", "gw", RUN, 2),
        ("q", "gw", RUN, 1),
    ]
    (only,) = store.gateway_runs(NOON, NOON + DAY, LATER_RUN)
    assert only.gateway_start == LATER_RUN


def test_events_without_a_number_make_runs_of_their_own(store: EventStore, topic: UUID) -> None:
    """One for each producer, server and namespace; rows and times alone count."""
    store.insert([event(topic, n, producer="p", server="s", namespace="n") for n in range(3)])
    store.insert([event(topic, 5, producer="p", server="t", gateway_start=RUN)])
    store.insert([event(topic, 6, producer="p", server="t", sequence=9)])
    runs = store.gateway_runs(NOON, NOON + DAY)
    assert [(r.producer, r.server, r.namespace, r.gateway_start, r.rows) for r in runs] == [
        ("p", "s", "n", "", 3),
        ("p", "t", "", "", 2),
    ]
    assert {(r.first, r.last, r.present) for r in runs} == {(0, 0, 0)}
    assert not store.holes(NOON, NOON + DAY, 10)


def test_holes_lie_between_stored_numbers(store: EventStore, topic: UUID) -> None:
    """Each range that is missing, with the time of the event behind it, up to a limit."""
    store.insert([numbered(topic, n, minutes(n)) for n in (3, 4, 8, 10, 11)])
    store.insert([numbered(topic, n, minutes(n)) for n in (4, 8)])
    expected = [Hole("p", RUN, 5, 7, minutes(8)), Hole("p", RUN, 9, 9, minutes(10))]
    assert store.holes(NOON, NOON + DAY, 10) == expected
    assert store.holes(NOON, NOON + DAY, 1) == expected[:1]
    store.insert([numbered(topic, n, minutes(60)) for n in (5, 6, 7, 9)])
    assert store.holes(NOON, NOON + DAY, 10) == []


def test_holes_of_the_oldest_start_come_first(store: EventStore, topic: UUID) -> None:
    """Starts order themselves by the time in their ids; one may be asked for alone."""
    store.insert([numbered(topic, n, NOON, gateway_start=LATER_RUN) for n in (1, 3)])
    store.insert([numbered(topic, n, NOON, producer=p) for p in ("q", "p") for n in (1, 4)])
    holes = store.holes(NOON, NOON + DAY, 10)
    assert [(h.producer, h.gateway_start) for h in holes] == [
        ("p", RUN),
        ("q", RUN),
        ("p", LATER_RUN),
    ]
    assert store.holes(NOON, NOON + DAY, 10, LATER_RUN) == holes[2:]


def test_no_hole_falls_between_two_times(store: EventStore, topic: UUID) -> None:
    """A hole belongs to the time of the event behind it, though the one before is older."""
    store.insert([numbered(topic, n, minutes(n)) for n in (1, 2, 30, 31)])
    hole = Hole("p", RUN, 3, 29, minutes(30))
    assert store.holes(NOON, minutes(15), 10) == []
    assert store.holes(minutes(15), minutes(60), 10) == [hole]
    assert store.holes(minutes(30), minutes(30), 10) == [hole]
    assert store.holes(minutes(31), minutes(60), 10) == []


def test_a_number_of_another_time_is_no_hole(store: EventStore, topic: UUID) -> None:
    """A clock that was set puts an event elsewhere in time; it is stored all the same."""
    store.insert([numbered(topic, n, minutes(n)) for n in (1, 2, 4, 5)])
    store.insert([numbered(topic, 3, minutes(3) - 7 * DAY)])
    assert store.holes(NOON, NOON + DAY, 10) == []


def test_great_numbers_make_no_work(store: EventStore, topic: UUID) -> None:
    """A forged number may leave a hole as wide as there are numbers."""
    most = 2**64 - 1
    store.insert([numbered(topic, n, minutes(1)) for n in (1, 2**33, most)])
    holes = store.holes(NOON, NOON + DAY, 10)
    assert [(h.first, h.last) for h in holes] == [(2, 2**33 - 1), (2**33 + 1, most - 1)]
    (run,) = store.gateway_runs(NOON, NOON + DAY)
    assert (run.first, run.last, run.present) == (1, most, 3)


def test_gaps_and_starts_come_in_order(store: EventStore, topic: UUID) -> None:
    """From that time on, oldest first."""
    store.insert([event(topic, n, event_type="audit.gap") for n in (3, 1, 2)])
    store.insert([event(topic, n, event_type="gateway.start") for n in (6, 5)])
    store.insert([event(topic, 9)])
    later = NOON + timedelta(milliseconds=2)
    assert [e.log_offset for e in store.gaps(NOON)] == [1, 2, 3]
    assert [e.log_offset for e in store.gaps(later)] == [2, 3]
    assert [e.log_offset for e in store.starts(NOON)] == [5, 6]


def test_total_leaves_types_out(store: EventStore, topic: UUID) -> None:
    """Statistics count without the internal types."""
    store.insert([event(topic, 1), event(topic, 2, event_type="audit.gap")])
    assert store.total(NONE) == 2
    assert store.total(frozenset({"audit.gap"})) == 1


def test_one_insert_may_span_many_days(store: EventStore, topic: UUID) -> None:
    """Old events of many days in one batch are stored, every one."""
    rows = [event(topic, n, event_time=NOON - timedelta(days=n)) for n in range(101)]
    store.insert(rows)
    assert store.total(NONE) == 101
    assert len(store.present(topic, 0, 0, 1000)) == 101


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


def test_nothing_is_pending_after_migrating(opener: Opener) -> None:
    """What is pending is told, as SQL, and changes nothing."""
    store = opener()
    changes = store.pending()
    assert [change.name for change in changes] == ["0001_events.sql", "0002_parts.sql"]
    assert "CREATE TABLE IF NOT EXISTS events" in changes[0].statements[0]
    assert store.pending() == changes
    store.migrate()
    assert store.pending() == []
    store.close()


def test_rows_outlive_the_process_s_handle(opener: Opener, topic: UUID) -> None:
    """What was inserted is there after the store was closed and opened again."""
    first = opener()
    first.migrate()
    first.insert([event(topic, 1)])
    first.close()
    second = opener()
    second.migrate()
    assert second.total(NONE) == 1
    second.close()

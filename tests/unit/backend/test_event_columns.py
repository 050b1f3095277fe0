"""An event's columns are told in several places; all of them tell the same."""

from typing import get_type_hints
from uuid import UUID

import orjson

from backend.api import filters, usage
from backend.api.event_view import Event
from backend.cli import events as command
from backend.ports.event_log import Position, Record
from backend.ports.event_store import StoredEvent
from backend.processor.rows import _Columns, _read_quickly, _read_slowly
from backend.queries import EVENT_MEMBERS, FILTER_TEXTS

STORED = get_type_hints(StoredEvent)


def test_what_is_filtered_by_is_a_column() -> None:
    """Parameters of the api, options of the command line and the store's question agree."""
    assert {STORED[name] for name in FILTER_TEXTS} == {str}
    assert sorted(each.name for each in filters.TEXTS) == sorted(FILTER_TEXTS)
    assert sorted(name for _, name, _ in command.FILTERS) == sorted(FILTER_TEXTS)


def test_what_is_shown_is_a_column() -> None:
    """In one order, in the api and in exports."""
    assert set(EVENT_MEMBERS) <= STORED.keys()
    first = ("timestamp", "source", "event_type", "payload")
    assert Event.__struct_fields__ == (*first, *EVENT_MEMBERS)
    assert set(usage.Recent.__struct_fields__) <= {*first, *EVENT_MEMBERS}


def test_each_member_of_a_payload_reaches_its_column() -> None:
    """Whichever of the two ways reads it."""
    payload = {name: f"its {name}" for name in _Columns.__struct_fields__}
    envelope = {"source": "s", "event_type": "t", "timestamp": "2026-11-22T12:00:00Z"}
    record = Record(Position(UUID(int=1), 0, 0), orjson.dumps(envelope | {"payload": payload}))
    for read in (_read_quickly, _read_slowly):
        stored = read(record)
        assert {name: getattr(stored, name) for name in payload} == payload

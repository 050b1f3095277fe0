"""Envelopes to rows, and what can never be one."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest

from backend.ports import Position, Record
from backend.processor.rows import read_record
from extauthz.core.errors import Poison

AT = Position(UUID(int=1), 2, 3)
GOOD: dict[str, Any] = {
    "event_id": "id",
    "timestamp": "2026-11-22T13:00:00.5+01:00",
    "source": "mcp-proxy",
    "event_type": "mcp.request",
    "payload": {"server": "shop", "tool_name": "refund", "decision_id": "id", "n": 1},
}


def row(**members: Any) -> Any:
    return read_record(Record(AT, orjson.dumps(GOOD | members)))


def test_members_of_the_payload_become_columns() -> None:
    """Column, payload, position and time are those of the record."""
    stored = row()
    assert (stored.server, stored.tool_name, stored.declared_tool) == ("shop", "refund", "refund")
    assert stored.event_time == datetime(2026, 11, 22, 12, 0, 0, 500000, tzinfo=UTC)
    assert stored.position == AT
    assert orjson.loads(stored.payload) == GOOD["payload"]
    assert stored.outcome_of == ""


def test_an_undeclared_tool_is_blank_in_aggregates() -> None:
    """A caller cannot make names for the statistics."""
    stored = row(payload={"tool_name": "made-up", "tool_undeclared": True})
    assert (stored.tool_name, stored.declared_tool) == ("made-up", "")


def test_an_outcome_names_its_call() -> None:
    """Only `mcp.response` is the outcome of something."""
    assert row(event_type="mcp.response").outcome_of == "id"


def test_names_are_capped_and_typed() -> None:
    """Columns take at most 256 bytes, and strings alone."""
    stored = row(payload={"server": "é" * 500, "human_id": {"a": 1}, "agent_id": 7})
    assert len(stored.server.encode()) == 256
    assert (stored.human_id, stored.agent_id) == ("", "")


def test_resent_must_be_true() -> None:
    """The mark is a JSON true, nothing else."""
    assert row(resent=True).resent
    assert not row(resent="yes").resent
    assert not row().resent


def test_a_missing_id_is_always_the_same() -> None:
    """A record without an id gets one from its position, the same at every reading."""
    assert row(event_id="").event_id == row(event_id="").event_id != ""


POISON = [
    (b"", "not JSON"),
    (b"\xff", "not JSON"),
    (b'{"source": NaN}', "not JSON"),
    (b"[]", "JSON object"),
    (orjson.dumps(GOOD | {"source": ""}), "source"),
    (orjson.dumps(GOOD | {"payload": None}), "payload"),
    (orjson.dumps(GOOD | {"timestamp": ""}), "timestamp"),
    (orjson.dumps(GOOD | {"timestamp": "2500-01-01T00:00:00Z"}), "timestamp"),
]


@pytest.mark.parametrize(("value", "why"), POISON)
def test_poison(value: bytes, why: str) -> None:
    """The reason names what is wrong, the error where it lies."""
    with pytest.raises(Poison, match=why) as raised:
        read_record(Record(AT, value))
    assert raised.value.position == AT

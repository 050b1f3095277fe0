"""Envelopes to rows, and what can never be one."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from backend.ports.event_log import RESENT_HEADER, Position, Record
from backend.processor.rows import _Envelope, _Members, _read_quickly, _read_slowly, read_record
from extauthz.core.errors import Invalid, Poison

AT = Position(UUID(int=1), 2, 3)
GOOD: dict[str, Any] = {
    "event_id": "01a2047a-b530-7323-92fc-da63a5512313",
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


def test_a_number_that_no_gateway_takes_counts_as_none() -> None:
    """63 bits, so that what is counted with it stays a number everywhere."""
    most = (1 << 63) - 1
    assert [row(payload={"sequence": n}).sequence for n in (most, most + 1, -1)] == [most, 0, 0]


def test_resent_must_be_true() -> None:
    """The mark is a JSON true, nothing else."""
    assert row(resent=True).resent
    assert not row(resent="yes").resent
    assert not row().resent


def test_the_header_marks_as_resent() -> None:
    """Whatever its value; other headers say nothing about it."""
    value = orjson.dumps(GOOD)
    assert read_record(Record(AT, value, (("traceparent", b"x"), (RESENT_HEADER, b"")))).resent
    assert not read_record(Record(AT, value, (("traceparent", b"x"),))).resent


@pytest.mark.parametrize("server", ["shop", "long" * 40])
def test_the_payload_goes_through_untouched(server: str) -> None:
    """Numbers, blanks, escapes and the order of members stay as they came."""
    rest = '"n":1.50,\n "big":12345678901234567890123, "t":"\\u00e9 é"'
    payload = f'{{"server": "{server}", {rest}}}'
    head = '{"source":"s","event_type":"t","timestamp":"2026-11-22T12:00:00Z","payload":'
    stored = read_record(Record(AT, f"{head} {payload} }}".encode()))
    assert (stored.payload, stored.server) == (payload, server)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = [*_Envelope.__struct_fields__, "unknown"]
PAYLOADS = st.dictionaries(st.sampled_from([*_Members.__struct_fields__, "other"]), JSON)
INSTANTS = st.datetimes(timezones=st.timezones()).map(datetime.isoformat)


# Zones are read from disk, which takes its time where others use the disk.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    good=st.sets(st.sampled_from(sorted(GOOD))),
    members=st.dictionaries(st.sampled_from(MEMBERS), JSON | PAYLOADS | INSTANTS),
)
def test_both_ways_to_read_agree(good: set[str], members: dict[str, Any]) -> None:
    """What the quick way takes, the slow way reads as the same row; the rest is poison at worst."""
    envelope = members | {name: GOOD[name] for name in good}
    value = json.dumps(envelope, ensure_ascii=False).encode("utf-8", "surrogatepass")
    record = Record(AT, value)
    try:
        quick = _read_quickly(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, Invalid):
        with suppress(Poison):
            read_record(record)
        return
    try:
        slow = _read_slowly(record)
    except (orjson.JSONDecodeError, Invalid):
        # It is stricter about numbers out of range and about seconds without a T or a colon.
        return
    assert structs.replace(quick, event_time=slow.event_time) == slow
    assert abs(quick.event_time - slow.event_time) < timedelta(milliseconds=1)


@given(st.binary())
def test_any_bytes_are_a_row_or_poison(value: bytes) -> None:
    """Nothing that lies in the log raises anything else."""
    with suppress(Poison):
        read_record(Record(AT, value))


def test_a_missing_id_is_always_the_same() -> None:
    """A record without an id gets one from its position, the same at every reading."""
    assert row(event_id="").event_id == row(event_id="").event_id != ""


def test_an_id_is_stored_in_one_spelling() -> None:
    """Ids are compared as text."""
    assert row(event_id=GOOD["event_id"].upper()).event_id == GOOD["event_id"]
    assert row(event_id=GOOD["event_id"].replace("-", "")).event_id == GOOD["event_id"]


POISON = [
    (b"", "not JSON"),
    (b"\xff", "not JSON"),
    (b'{"source": NaN}', "not JSON"),
    (b"[]", "JSON object"),
    (
        b'{"source":"s","event_type":"t","timestamp":"2026-11-22T12:00:00Z","payload":"\xff"}',
        "JSON",
    ),
    (b'{"payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
    (orjson.dumps(GOOD | {"event_id": "7"}), "event_id: is not a UUID"),
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

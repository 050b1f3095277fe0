"""A record of the log to a row of the store. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid5

import orjson

from backend.ports import EVENT_TIMES_END, Record, StoredEvent
from extauthz.core.errors import Invalid, Poison
from extauthz.core.events import EventType, cap, check_envelope
from extauthz.core.times import parse_instant

# Payload members that are columns of the same name.
_COLUMNS: Final = (
    "server",
    "namespace",
    "team_id",
    "cluster",
    "human_id",
    "agent_id",
    "session_id",
    "decision",
    "reason",
    "tool_name",
    "gateway",
    "gateway_start",
    "request_id",
)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A row, the record it was read from, and whether it may have been sent before."""

    record: Record
    row: StoredEvent
    resent: bool


def read_record(record: Record) -> Incoming:
    """Read one envelope.

    Raises:
        Poison: it can never be stored, and why.
    """
    try:
        envelope = check_envelope(orjson.loads(record.value))
        seconds = parse_instant(envelope.get("timestamp", ""), "timestamp")
    except orjson.JSONDecodeError as error:
        raise Poison(record.position, f"not JSON: {error.msg}") from error
    except Invalid as error:
        raise Poison(record.position, str(error)) from error
    if not 0 <= seconds < EVENT_TIMES_END:
        raise Poison(record.position, "timestamp: is out of range; send 1970 to 2149")
    return Incoming(record, _row(record, envelope, seconds), envelope.get("resent") is True)


def _row(record: Record, envelope: dict[str, Any], seconds: float) -> StoredEvent:
    payload = envelope["payload"]
    members: dict[str, Any] = payload if isinstance(payload, dict) else {}
    columns = {name: _text(members.get(name)) for name in _COLUMNS}
    at = record.position
    is_outcome = envelope["event_type"] == EventType.RESPONSE
    return StoredEvent(
        event_time=datetime.fromtimestamp(seconds, UTC),
        # A foreign producer's record without an id gets one that every reading gives it.
        event_id=envelope.get("event_id") or str(uuid5(at.topic_id, f"{at.partition}:{at.offset}")),
        source=cap(envelope["source"]),
        event_type=cap(envelope["event_type"]),
        payload=orjson.dumps(payload).decode(),
        topic_id=at.topic_id,
        log_partition=at.partition,
        log_offset=at.offset,
        producer=_text(envelope.get("producer")),
        trace_id=_text(envelope.get("trace_id")),
        declared_tool="" if members.get("tool_undeclared") is True else columns["tool_name"],
        sequence=_count(members.get("sequence")),
        resent=envelope.get("resent") is True,
        outcome_of=_text(members.get("decision_id")) if is_outcome else "",
        **columns,
    )


def _text(value: object) -> str:
    return cap(value) if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 1 << 64 else 0

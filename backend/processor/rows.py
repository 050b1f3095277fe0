"""A record of the log to a row of the store. Pure.

Nearly every record is Sentinel's own, and two compiled decoders read it; the payload's
bytes go through as they came. What these do not take (a member of another type, a long
name, a payload that is no object) is read slowly and leniently, or refused with a reason.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID, uuid5

import msgspec
import orjson

from backend.ports.event_log import RESENT_HEADER, DeadLetter, Position, Record
from backend.ports.event_store import EVENT_TIMES_END, StoredEvent
from extauthz.core.errors import Invalid, Poison
from extauthz.core.events import MAX_NAME_BYTES, EventType, cap, check_envelope
from extauthz.core.times import parse_instant

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_END: Final = datetime.fromtimestamp(EVENT_TIMES_END, UTC)

# So many characters need no cap, whatever they are.
_Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME_BYTES // 4)]


class _Envelope(msgspec.Struct, gc=False):
    source: _Name
    event_type: _Name
    payload: msgspec.Raw
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    event_id: str = ""
    trace_id: _Name = ""
    producer: _Name = ""
    resent: bool = False


class _Columns(msgspec.Struct, gc=False):
    """Payload members that are columns of the same name."""

    server: _Name = ""
    namespace: _Name = ""
    team_id: _Name = ""
    cluster: _Name = ""
    human_id: _Name = ""
    agent_id: _Name = ""
    session_id: _Name = ""
    decision: _Name = ""
    reason: _Name = ""
    tool_name: _Name = ""
    gateway: _Name = ""
    gateway_start: _Name = ""
    request_id: _Name = ""


class _Members(_Columns, gc=False):
    decision_id: _Name = ""
    tool_undeclared: bool = False
    sequence: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0


class _PayloadAlone(msgspec.Struct, gc=False):
    payload: msgspec.Raw


_is_plain_uuid: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_envelope_of: Final = msgspec.json.Decoder(_Envelope).decode
_members_of: Final = msgspec.json.Decoder(_Members).decode
_payload_of: Final = msgspec.json.Decoder(_PayloadAlone).decode


def read_record(record: Record) -> StoredEvent:
    """Read one envelope.

    Raises:
        Poison: it can never be stored, and why.
    """
    try:
        return _read_quickly(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Invalid):
        pass
    try:
        return _read_slowly(record)
    except orjson.JSONDecodeError as error:
        raise Poison(record.position, f"not JSON: {error.msg}") from error
    except (RecursionError, msgspec.MsgspecError) as error:
        raise Poison(record.position, "payload: is nested too deep, or not JSON") from error
    except Invalid as error:
        raise Poison(record.position, str(error)) from error


def read_records(records: Sequence[Record]) -> tuple[list[StoredEvent], list[DeadLetter]]:
    """Rows of what can be read, and the rest with the reasons."""
    rows, letters = [], []
    for record in records:
        try:
            rows.append(read_record(record))
        except Poison as error:
            letters.append(DeadLetter(record, error.why))
    return rows, letters


def _read_quickly(record: Record) -> StoredEvent:
    """Raises whatever a decoder raises, or Invalid, where the slow way must look."""
    envelope = _envelope_of(record.value)
    members = _members_of(envelope.payload)
    if not envelope.source.strip() or not envelope.event_type.strip():
        raise Invalid("", "blank")
    if envelope.event_id and not _is_plain_uuid(envelope.event_id):
        raise Invalid("event_id", "in another spelling, or no UUID")
    at = record.position
    is_outcome = envelope.event_type == EventType.RESPONSE
    return StoredEvent(
        event_time=_checked(envelope.timestamp),
        event_id=envelope.event_id or _id_at(at),
        source=envelope.source,
        event_type=envelope.event_type,
        payload=str(envelope.payload, "utf-8"),  # the decoders do not look into unknown strings
        topic_id=at.topic_id,
        log_partition=at.partition,
        log_offset=at.offset,
        producer=envelope.producer,
        trace_id=envelope.trace_id,
        resent=envelope.resent or _is_marked(record),
        server=members.server,
        namespace=members.namespace,
        team_id=members.team_id,
        cluster=members.cluster,
        human_id=members.human_id,
        agent_id=members.agent_id,
        session_id=members.session_id,
        decision=members.decision,
        reason=members.reason,
        tool_name=members.tool_name,
        declared_tool="" if members.tool_undeclared else members.tool_name,
        gateway=members.gateway,
        gateway_start=members.gateway_start,
        sequence=members.sequence,
        request_id=members.request_id,
        outcome_of=members.decision_id if is_outcome else "",
    )


def _read_slowly(record: Record) -> StoredEvent:
    """Raises: JSONDecodeError, MsgspecError, RecursionError, Invalid."""
    envelope = check_envelope(orjson.loads(record.value))
    seconds = parse_instant(envelope.get("timestamp", ""), "timestamp")
    _check_range(0 <= seconds < EVENT_TIMES_END)
    payload = envelope["payload"]
    members: dict[str, Any] = payload if isinstance(payload, dict) else {}
    columns = {name: _text(members.get(name)) for name in _Columns.__struct_fields__}
    at = record.position
    is_outcome = envelope["event_type"] == EventType.RESPONSE
    return StoredEvent(
        event_time=datetime.fromtimestamp(seconds, UTC),
        event_id=_uuid(envelope.get("event_id", "")) or _id_at(at),
        source=cap(envelope["source"]),
        event_type=cap(envelope["event_type"]),
        payload=str(_payload_of(record.value).payload, "utf-8"),
        topic_id=at.topic_id,
        log_partition=at.partition,
        log_offset=at.offset,
        producer=_text(envelope.get("producer")),
        trace_id=_text(envelope.get("trace_id")),
        declared_tool="" if members.get("tool_undeclared") is True else columns["tool_name"],
        sequence=_count(members.get("sequence")),
        resent=envelope.get("resent") is True or _is_marked(record),
        outcome_of=_text(members.get("decision_id")) if is_outcome else "",
        **columns,
    )


def _checked(moment: datetime) -> datetime:
    _check_range(_EPOCH <= moment < _END)
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def _check_range(is_within: bool) -> None:
    if not is_within:
        raise Invalid("timestamp", "is out of range", "send 1970 to 2105")


def _uuid(text: str) -> str:
    """In the usual spelling, for ids are compared as text; empty where it is empty."""
    try:
        return str(UUID(text)) if text else ""
    except ValueError:
        raise Invalid("event_id", "is not a UUID", "send a UUIDv7") from None


def _id_at(at: Position) -> str:
    """For a record without an id: every reading gives it the same one."""
    return str(uuid5(at.topic_id, f"{at.partition}:{at.offset}"))


def _is_marked(record: Record) -> bool:
    return bool(record.headers) and any(name == RESENT_HEADER for name, _ in record.headers)


def _text(value: object) -> str:
    return cap(value) if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 1 << 63 else 0

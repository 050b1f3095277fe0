"""Rows of the table of events as values, and values as what the table takes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import structs

from backend.ports.event_store import StoredEvent

COLUMNS: Final = StoredEvent.__struct_fields__
READ: Final = "SELECT toUnixTimestamp64Milli(event_time), " + ", ".join(COLUMNS[1:])

# How `lines_of` writes rows.
FORMAT: Final = "JSONCompactEachRow"
WRITTEN: Final = tuple("payload_packed" if name == "payload" else name for name in COLUMNS)

_MARK: Final = "\x7f"  # in front of a letter it stands for an id
_MARKED: Final = f'{{"decision_id":"{_MARK}e","request_id":"{_MARK}r"'
_ENCODER: Final = msgspec.json.Encoder()


def event_of(row: Sequence[Any]) -> StoredEvent:
    """What `READ` selected."""
    ms, *others = row
    members = dict(zip(COLUMNS[1:], others, strict=True))
    members["event_id"] = str(members["event_id"])
    members["topic_id"] = UUID(str(members["topic_id"]))
    return StoredEvent(event_time=moment(ms), **members)


def moment(ms: int) -> datetime:
    """Milliseconds since the epoch as an aware time."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def lines_of(rows: Sequence[StoredEvent]) -> bytes:
    """An array a line, of the columns `WRITTEN`."""
    return _ENCODER.encode_lines([_written(row) for row in rows])


def _written(row: StoredEvent) -> StoredEvent:
    """With its payload packed, and an object as it is: escaped it would cost more everywhere."""
    packed = pack(row)
    payload = msgspec.Raw(packed) if packed.startswith("{") else packed
    return structs.replace(row, payload=payload)


def pack(row: StoredEvent) -> str:
    """The payload, with marks for the ids of a gateway's call, which are columns, too.

    Random, they would cost twice. The table's column `payload` puts them back, which is exact: no
    other mark is there, for a payload that holds what marks begin with is escaped, and so the same
    JSON.
    """
    text = row.payload
    if _MARK in text:
        text = text.replace(_MARK, "\\u007f")
    named = f'{{"decision_id":"{row.event_id}","request_id":"{row.request_id}"'
    if text.startswith(named) and row.event_id.islower():  # as the column comes back
        return _MARKED + text[len(named) :]
    return text

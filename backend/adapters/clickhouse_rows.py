"""Rows of the table of events as values."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from backend.ports.event_store import StoredEvent

COLUMNS: Final = StoredEvent.__struct_fields__
READ: Final = "SELECT toUnixTimestamp64Milli(event_time), " + ", ".join(COLUMNS[1:])


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

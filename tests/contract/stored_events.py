"""Events for the tests of EventStore."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from msgspec import structs

from backend.ports.event_store import StoredEvent

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def id_of(number: int) -> str:
    return f"01a2047a-b530-7323-92fc-{number:012x}"


def event(topic: UUID, offset: int, **members: object) -> StoredEvent:
    plain = StoredEvent(
        event_time=NOON + timedelta(milliseconds=offset),
        event_id=id_of(offset),
        source="mcp-proxy",
        event_type="mcp.request",
        payload='{"n":1}',
        topic_id=topic,
        log_partition=0,
        log_offset=offset,
    )
    return structs.replace(plain, **members)  # type: ignore[arg-type]

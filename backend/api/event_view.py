"""Events as the api shows them: members that existing tools know, without the empty ones."""

from typing import Final

import msgspec

from backend.ports.event_store import StoredEvent
from extauthz.core.times import format_instant


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event; `payload` is what its producer sent, a call's with its outcome."""

    timestamp: str
    source: str
    event_type: str
    payload: msgspec.Raw
    trace_id: str = ""
    server: str = ""
    namespace: str = ""
    team_id: str = ""
    cluster: str = ""
    human_id: str = ""
    agent_id: str = ""
    session_id: str = ""
    decision: str = ""
    tool_name: str = ""
    event_id: str = ""
    reason: str = ""
    producer: str = ""


_COPIED: Final = tuple(Event.__struct_fields__[4:])


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a page stands in its list."""

    limit: int
    has_more: bool
    next_cursor: str = ""


class EventPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Events, newest first; `next` is the address of the page behind this one."""

    events: list[Event]
    meta: Meta
    next: str = ""


class EventAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event; `others` are those that other producers sent with the same id."""

    event: Event
    others: list[Event] = []


def shown(event: StoredEvent) -> Event:
    """One event, its payload's bytes as they came."""
    return Event(
        format_instant(event.event_time.timestamp()),
        event.source,
        event.event_type,
        msgspec.Raw(event.payload.encode()),
        *(getattr(event, name) for name in _COPIED),
    )

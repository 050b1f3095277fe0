"""Events as the api shows them: members that existing tools know, without the empty ones."""

import msgspec

from backend.ports.event_store import StoredEvent
from backend.queries import EVENT_MEMBERS
from extauthz.core.times import format_instant


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event; `payload` is what its producer sent, a call's with its outcome.

    Behind the first four: `EVENT_MEMBERS`.
    """

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
        **{name: getattr(event, name) for name in EVENT_MEMBERS},
    )

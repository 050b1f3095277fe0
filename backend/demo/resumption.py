"""What a legacy client missed while its event stream was cut, kept per session."""

from collections import deque
from dataclasses import dataclass

from mcp.server.auth.middleware.bearer_auth import AuthorizationContext
from mcp.server.streamable_http import (
    EventCallback,
    EventMessage,
    EventStore,
    StreamableHTTPServerTransport,
)
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.types import JSONRPCMessage

KEPT_EVENTS = 256
"""How many events a session remembers; older ones are forgotten."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as sent; without a message it only marks where its stream began."""

    number: int
    stream_id: str
    message: JSONRPCMessage | None


class RecentEvents(EventStore):
    """The last events of one session, in memory."""

    def __init__(self) -> None:
        self._events: deque[StoredEvent] = deque(maxlen=KEPT_EVENTS)
        self._next = 1

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Remember an event; returns its id."""
        event = StoredEvent(self._next, stream_id, message)
        self._next += 1
        self._events.append(event)
        return str(event.number)

    async def replay_events_after(
        self, last_event_id: str, send_callback: EventCallback
    ) -> str | None:
        """Send what followed on that event's stream; returns the stream, None when unknown."""
        last = next((event for event in self._events if str(event.number) == last_event_id), None)
        if last is None:
            return None
        for event in list(self._events):
            if (
                event.number > last.number
                and event.stream_id == last.stream_id
                and event.message is not None
            ):
                await send_callback(EventMessage(event.message, str(event.number)))
        return last.stream_id


class ResumableSessions(StreamableHTTPSessionManager):
    """Sessions that each have an event store of their own.

    The SDK shares one store between all sessions and names a stream after the request id, which
    clients count from one: another session's answers would be replayed.
    """

    def _admit_session(
        self, requestor: AuthorizationContext | None
    ) -> StreamableHTTPServerTransport | None:
        self.event_store = RecentEvents()
        return super()._admit_session(requestor)

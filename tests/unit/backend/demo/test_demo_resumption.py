"""Event stores: what a legacy client gets again after its stream was cut."""

from mcp.server.streamable_http import EventMessage
from mcp.types import JSONRPCMessage, JSONRPCNotification

from backend.demo.resumption import KEPT_EVENTS, RecentEvents, ResumableSessions
from backend.demo.server import build_server


def message(method: str) -> JSONRPCMessage:
    return JSONRPCNotification(jsonrpc="2.0", method=method)


async def replayed(events: RecentEvents, after: str) -> tuple[str | None, list[str]]:
    sent: list[str] = []

    async def send(event: EventMessage) -> None:
        assert isinstance(event.message, JSONRPCNotification)
        sent.append(event.message.method)

    return await events.replay_events_after(after, send), sent


async def test_only_what_followed_on_the_same_stream_is_replayed() -> None:
    """Neither earlier events nor those of other streams come again."""
    events = RecentEvents()
    await events.store_event("1", message("before"))
    start = await events.store_event("1", None)
    await events.store_event("2", message("another stream"))
    await events.store_event("1", message("after"))
    assert await replayed(events, start) == ("1", ["after"])


async def test_an_unknown_event_replays_nothing() -> None:
    """An id that was never given out, or is forgotten, leads to no stream."""
    events = RecentEvents()
    first = await events.store_event("1", None)
    for _ in range(KEPT_EVENTS):
        await events.store_event("1", message("later"))
    assert await replayed(events, first) == (None, [])
    assert await replayed(events, "no number") == (None, [])


def test_each_session_has_events_of_its_own() -> None:
    """Two sessions never share a store: both count their requests from one."""
    sessions = ResumableSessions(build_server()._lowlevel_server)
    stores = [sessions._admit_session(None)._event_store for _ in range(2)]
    assert stores[0] is not stores[1]

"""All objects of a kind, and what happens to them, as values."""

from collections.abc import AsyncGenerator, Callable
from typing import Final

from backend.adapters.kubernetes_calls import ApiCalls, Raw
from backend.ports.control_plane import Followed, Listing, Observed

_PAGE: Final = 500  # objects of one answer


async def list_all(
    calls: ApiCalls, path: str, read: Callable[[Raw], Followed]
) -> Listing[Followed]:
    """Page by page, as they stood at the first. Raises: as `ApiCalls.ask`."""
    items: list[Followed] = []
    query = {"limit": str(_PAGE)}
    while True:
        page = await calls.ask("GET", path, query=query)
        items += map(read, page["items"])
        following = page["metadata"].get("continue")
        if not following:
            return Listing(items, page["metadata"]["resourceVersion"])
        query = {"limit": str(_PAGE), "continue": following}


async def follow_all(
    calls: ApiCalls, path: str, since: str, read: Callable[[Raw], Followed]
) -> AsyncGenerator[Observed[Followed], None]:
    """What happens after a version. Raises: as `ApiCalls.watch`."""
    async for event in calls.watch(path, {"resourceVersion": since}):
        if event is None:
            yield Observed(since)
            continue
        raw = event["object"]
        version = raw["metadata"]["resourceVersion"]
        if event["type"] == "BOOKMARK":
            yield Observed(version)
            continue
        found = read(raw)
        yield Observed(version, found.key, None if event["type"] == "DELETED" else found)

"""Records what is changed at the API server by others than the api: kubectl, and whatever else."""

import asyncio
from collections.abc import Callable
from typing import Final

from backend.ports.control_plane import Standing
from extauthz.core.governance import Action, Change, server_of
from extauthz.core.writing import Object, to_object

API: Final = "mcp-sentinel"  # the api's field manager; it records its changes itself
UNKNOWN: Final = "unknown"
DELETION: Final = "an API server keeps who writes an object, not who deletes it; its audit log may"
NO_MANAGER: Final = "the API server names no field manager of this write"


class ClusterChanges:
    """A unit: takes changes at once, and records them in their order.

    Who deleted an object is not known: its deletion is told so, after that of the api where it
    was the api.

    Args:
        record: keeps one for the event log; blocks.
    """

    name = "change recording"

    def __init__(self, record: Callable[[Change], object]) -> None:
        self._record = record
        self._waiting: asyncio.Queue[Change | None] = asyncio.Queue()

    def note(self, before: Standing | None, after: Standing | None) -> None:
        """Take the change of an object; None where there is none."""
        change = change_of(before, after)
        if change is not None:
            self._waiting.put_nowait(change)

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        ready()
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._waiting.put_nowait(None))
        while (change := await self._waiting.get()) is not None:
            await asyncio.to_thread(self._record, change)


def change_of(before: Standing | None, after: Standing | None) -> Change | None:
    """What is to be recorded; None where nothing is.

    Args:
        before: None where nothing is known of it, as after a start: then an object counts as
            recorded once its status speaks of its generation.
    """
    known = before or after
    assert known
    old, new = _written(before), _written(after)
    if after is None:
        action, actor, why = Action.DELETED, "", DELETION
    else:
        was_seen = any(each.generation == after.generation for each in after.conditions)
        if after.writer == API or new is None or (before is None and was_seen):
            return None
        is_new = after.generation == 1 or (before is not None and before.uid != after.uid)
        action, actor, why = Action.CREATED if is_new else Action.CHANGED, after.writer, NO_MANAGER
    told = new or old
    if told is None or old == new:
        return None
    return Change(
        known.key,
        action,
        actor or UNKNOWN,
        server_of(told),
        old,
        new,
        actor_unknown="" if actor else why,
    )


def _written(standing: Standing | None) -> Object | None:
    return to_object(standing.resource) if standing and standing.resource else None

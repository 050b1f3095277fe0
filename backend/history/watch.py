"""Records edits of the access directory as `governance.change` events.

The directory is compared with what was last recorded, in the store and by this process; so
edits made while nothing ran are recorded at the next start, with the time they were noticed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson
from watchfiles import awatch

from backend.history.differences import differences
from backend.history.folder import Folder
from backend.ports.event_log import EventLog, Message
from backend.ports.event_store import EventStore
from extauthz.core.errors import Invalid, SentinelError
from extauthz.core.events import EventType
from extauthz.core.governance import Change, Key, change_payload, read_change
from extauthz.core.history import Recorded
from extauthz.core.times import format_instant

PRODUCER: Final = "directory-watch"
SOURCE: Final = "sentinel"
POLL_SECONDS: Final = 1.0  # for what no notice reaches
COMPARE_SECONDS: Final = 60.0  # the store may have got what another process recorded
MOST_AT_ONCE: Final = 500
_KEY: Final = b"governance"  # one key keeps all changes in one partition, in order

_log = logging.getLogger(__name__)


class DirectoryWatch:
    """A unit; ready at once, for nobody waits for it: queries work while the log is away.

    Args:
        folder: the access directory.
        open_log: the event log; it may be away.
        clock: seconds since the epoch.
        new_id: makes a UUIDv7.
        retention: how long the store keeps events; None for ever. Objects that do not change
            are told again twice in that time, so that it always knows them.
    """

    name = "directory watch"

    def __init__(
        self,
        folder: Path,
        *,
        open_log: Callable[[], Awaitable[EventLog]],
        store: EventStore,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        retention: timedelta | None,
    ) -> None:
        self._folder, self._open_log, self._store = Folder(folder), open_log, store
        self._clock, self._new_id, self._retention = clock, new_id, retention
        self._recorded: dict[Key, Recorded] = {}
        self._compared_at = -COMPARE_SECONDS
        self._fault = ""

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        ready()
        await self.look()
        while not stop.is_set():
            try:
                await self._watch(stop)
            except OSError:  # the folder is away, or the kernel's watches are used up
                await _sleep(stop)
                await self.look()

    async def _watch(self, stop: asyncio.Event) -> None:
        async for _ in awatch(
            self._folder.path,
            watch_filter=None,
            debounce=200,
            step=20,
            rust_timeout=int(POLL_SECONDS * 1000),
            yield_on_timeout=True,
            stop_event=stop,
        ):
            await self.look()

    async def look(self) -> None:
        """Record what changed; where something is away, the next look does."""
        try:
            await self._look()
        except SentinelError as error:
            if self._fault != str(error):
                _log.warning("changes are not recorded", extra={"error": str(error)})
            self._fault = str(error)
        else:
            self._fault = ""

    async def _look(self) -> None:
        reading = await asyncio.to_thread(self._folder.read)
        now = self._clock()
        if abs(now - self._compared_at) >= COMPARE_SECONDS:
            await asyncio.to_thread(self._compare, now)
            self._compared_at = now
        retention = self._retention.total_seconds() if self._retention else 0.0
        confirm_before = now - retention / 2 if retention else 0.0
        changes = list(differences(self._recorded, reading, confirm_before))
        if changes:
            await self._record(changes, now)

    def _compare(self, now: float) -> None:
        """Learn what is recorded; what this process told later is not stored yet. Blocks."""
        for event in self._store.changes(datetime.fromtimestamp(now, UTC)):
            try:
                change = read_change(event.payload)
            except Invalid as error:
                problem = {"event_id": event.event_id, "error": str(error)}
                _log.warning("a recorded change cannot be read", extra=problem)
                continue
            own, at = self._recorded.get(change.key), event.event_time.timestamp()
            if own is None or own.at < at:
                self._recorded[change.key] = Recorded(at, change)

    async def _record(self, changes: Sequence[Change], now: float) -> None:
        log = await self._open_log()
        at = int(now * 1000) / 1000  # as it is stored
        for first in range(0, len(changes), MOST_AT_ONCE):
            some = changes[first : first + MOST_AT_ONCE]
            await log.append([self._message(change, at) for change in some])
            for change in some:
                self._recorded[change.key] = Recorded(at, change)
                told: dict[str, Any] = {"action": change.action.value, **change.key._asdict()}
                _log.info("change recorded", extra={"change": told})

    def _message(self, change: Change, at: float) -> Message:
        envelope = {
            "producer": PRODUCER,
            "event_id": self._new_id(),
            "timestamp": format_instant(at),
            "source": SOURCE,
            "event_type": EventType.GOVERNANCE_CHANGE.value,
            "payload": change_payload(change),
        }
        return Message(orjson.dumps(envelope), _KEY)


async def _sleep(stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(POLL_SECONDS):
            await stop.wait()
    except TimeoutError:
        pass

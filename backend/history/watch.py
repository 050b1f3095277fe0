"""Records edits of the access directory as `governance.change` events.

The directory is compared with what was last recorded, in the store and by this process; so
edits made while nothing ran are recorded at the next start, with the time they were noticed,
and what the api recorded and then could not write is put right.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from watchfiles import awatch

from backend.history.differences import differences
from backend.history.folder import Folder, Reading
from backend.history.ledger import Ledger
from backend.history.records import message_of, told
from backend.history.turn import Turn
from backend.ports.event_log import EventLog
from backend.ports.event_store import EventStore
from extauthz.core.errors import Invalid, SentinelError
from extauthz.core.governance import read_change
from extauthz.core.history import Recorded

PRODUCER: Final = "directory-watch"
POLL_SECONDS: Final = 1.0  # for what no notice reaches
COMPARE_SECONDS: Final = 60.0  # the store may have got what another process recorded
MOST_AT_ONCE: Final = 500

_log = logging.getLogger(__name__)


class DirectoryWatch:
    """A unit; ready at once, for nobody waits for it: queries work while the log is away.

    Args:
        folder: the access directory.
        ledger: what is recorded; who else records in this process shares it.
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
        ledger: Ledger,
        open_log: Callable[[], Awaitable[EventLog]],
        store: EventStore,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        retention: timedelta | None,
    ) -> None:
        self._folder, self._open_log, self._store = Folder(folder), open_log, store
        self._clock, self._new_id, self._retention = clock, new_id, retention
        self._ledger, self._turn = ledger, Turn(folder)
        self._compared_at = -COMPARE_SECONDS
        self._fault = ""

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        ready()
        try:
            await self._look_in_turn()
            while not stop.is_set():
                try:
                    await self._watch(stop)
                except OSError:  # the folder is away, or the kernel's watches are used up
                    await _sleep(stop)
                    await self._look_in_turn()
        finally:
            self._turn.end()

    async def _look_in_turn(self) -> None:
        """Several processes on one directory would each record every edit."""
        if self._turn.is_ours():
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
            await self._look_in_turn()

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
        self._ledger.begin_look()
        reading = await asyncio.to_thread(self._folder.read)
        now = self._clock()
        if abs(now - self._compared_at) >= COMPARE_SECONDS:
            await asyncio.to_thread(self._compare, now)
            self._compared_at = now
        if changes := self._changes(reading, now):
            await self._record(changes)

    def _changes(self, reading: Reading, now: float) -> list[Recorded]:
        """What is to be recorded, but for what others in this process are recording."""
        for key, last in self._ledger.last().items():
            if not last.change.file and key in reading.objects:
                self._ledger.place(key, reading.objects[key].file)
        retention = self._retention.total_seconds() if self._retention else 0.0
        confirm_before = now - retention / 2 if retention else 0.0
        found = list(differences(self._ledger.last(), reading, confirm_before))
        unsettled = self._ledger.unsettled()  # looked at last: nobody can begin unseen
        return [
            Recorded(self._ledger.time_for(change.key, now), change)
            for change in found
            if change.key not in unsettled
        ]

    def _compare(self, now: float) -> None:
        """Learn what is recorded; what this process told later is not stored yet. Blocks."""
        for event in self._store.changes(datetime.fromtimestamp(now, UTC)):
            try:
                change = read_change(event.payload)
            except Invalid as error:
                problem = {"event_id": event.event_id, "error": str(error)}
                _log.warning("a recorded change cannot be read", extra=problem)
                continue
            self._ledger.note(Recorded(event.event_time.timestamp(), change))

    async def _record(self, changes: Sequence[Recorded]) -> None:
        log = await self._open_log()
        for first in range(0, len(changes), MOST_AT_ONCE):
            some = changes[first : first + MOST_AT_ONCE]
            await log.append(
                [message_of(each, producer=PRODUCER, event_id=self._new_id()) for each in some]
            )
            for each in some:
                self._ledger.note(each)
                _log.info("change recorded", extra={"change": told(each.change)})


async def _sleep(stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(POLL_SECONDS):
            await stop.wait()
    except TimeoutError:
        pass

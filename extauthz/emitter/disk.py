"""The spool as the event loop sees it: one thread does the work, a failing disk is no exception."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from extauthz.emitter.entries import Gap, Line
from extauthz.emitter.rest import Rest
from extauthz.emitter.spool import Position, Spool

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Disk:
    """A spool and the thread that alone may touch it.

    Args:
        thread: an executor of one thread, in which `spool` was opened.
        spool: the spool of this start.
        monotonic: seconds, never set back.

    Attributes:
        count, bytes: as of the spool, when the last work on it was awaited.
    """

    def __init__(
        self, thread: ThreadPoolExecutor, spool: Spool, monotonic: Callable[[], float]
    ) -> None:
        self._thread, self._spool, self._rest = thread, spool, Rest(monotonic)
        self._sent: Position = (0, 0)  # all that is spooled up to here has been sent
        self._refused: list[Line] = []  # refused since, not yet marked so
        self.count, self.bytes = spool.count, spool.bytes

    @property
    def faults(self) -> int:
        """Writes that failed."""
        return self._rest.faults

    @property
    def is_resting(self) -> bool:
        """Whether a write failed a moment ago."""
        return not self._rest.is_over

    async def oldest(self, limit: int, max_bytes: int) -> list[Line]:
        """The first events that have not been sent, as `Spool.oldest`."""
        if not self.count:
            return []
        return await self._run(self._spool.oldest, self._sent, limit, max_bytes)

    async def append(self, lines: Sequence[Line]) -> bool:
        """Store all lines, or none; tell which."""
        return await self._write(self._spool.append, lines)

    async def finish(self, through: Position, refused: Sequence[Line]) -> None:
        """Note that all up to `through` has been sent, but for the refused.

        A disk that takes no removal is asked again with the next one.
        """
        self._sent = through
        self._refused += refused
        if await self._write(self._spool.finish, through, list(self._refused)):
            self._refused.clear()
            self._rest.end()  # there is room again

    async def forget(self, gap: Gap) -> None:
        """As `Spool.forget`; where it fails, the next start tells of the gap once more."""
        await self._write(self._spool.forget, gap)

    async def close(self) -> None:
        await self._run(self._spool.close)
        self._thread.shutdown()

    async def _write(self, work: Callable[..., None], *arguments: object) -> bool:
        try:
            await self._run(work, *arguments)
        except sqlite3.Error as error:
            if self._rest.failed():
                told = {"error": str(error)}
                _log.warning("the spool takes nothing; give it room, or ingest back", extra=told)
            return False
        return True

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        done = await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        self.count, self.bytes = self._spool.count, self._spool.bytes
        return done

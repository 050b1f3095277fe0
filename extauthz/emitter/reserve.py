"""Reserves sequences beside the work: a disk that hangs must not hold up sending."""

import asyncio
import logging

from extauthz.emitter.mark import Mark

_log = logging.getLogger(__name__)


class Reserve:
    """Keeps a mark ahead of what is taken from it. For the event loop.

    Attributes:
        faults: writes that failed.
    """

    def __init__(self, mark: Mark) -> None:
        self._mark = mark
        self._writing: asyncio.Future[None] | None = None
        self.faults = 0

    def look(self) -> None:
        """Begin to reserve where it is time to. Never waits."""
        if self._writing and self._writing.done():
            if error := self._writing.exception():
                self.faults += 1
                _log.warning("the mark cannot be written", extra={"error": str(error)})
            self._writing = None
        if self._writing is None and self._mark.is_short:
            loop = asyncio.get_running_loop()
            self._writing = loop.run_in_executor(None, self._mark.reserve)

    async def finish(self, seconds: float) -> None:
        """Wait for what is under way: the mark is closed next."""
        if self._writing:
            await asyncio.wait({self._writing}, timeout=seconds)

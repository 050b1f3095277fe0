"""Brings records of changes into the event log, in the order of the changes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from backend.history.outbox import Outbox
from backend.ports.event_log import EventLog, Message
from extauthz.core.errors import SentinelError

POLL_SECONDS: Final = 1.0  # while the log is away

_log = logging.getLogger(__name__)


class Delivery:
    """A unit; ready at once, for nobody waits for the log. On the log's own event loop.

    Args:
        open_log: the event log, started; it may be away.
    """

    name = "change delivery"

    def __init__(self, outbox: Outbox, open_log: Callable[[], Awaitable[EventLog]]) -> None:
        self._outbox, self._open_log = outbox, open_log
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._fault = ""

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        ready()
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        while True:
            self._wake.clear()
            is_last = stop.is_set()
            await self._try()
            if is_last:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()

    def wake(self) -> None:
        """Something waits."""
        self._wake.set()

    async def check(self) -> None:
        """Raises: Retryable: the log cannot be used."""
        await (await self._open_log()).ping()

    async def append(self, message: Message) -> None:
        """Return once the log has it, and all that waited before. Raises: Retryable."""
        async with self._turn:
            log = await self._open_log()
            await self._flush(log)
            await log.append([message])

    async def _try(self) -> None:
        try:
            async with self._turn:
                if await asyncio.to_thread(self._outbox.waiting):
                    await self._flush(await self._open_log())
        except SentinelError as error:
            if self._fault != str(error):
                _log.warning(
                    "records of changes wait for the event log", extra={"error": str(error)}
                )
            self._fault = str(error)
        else:
            self._fault = ""

    async def _flush(self, log: EventLog) -> None:
        while some := await asyncio.to_thread(self._outbox.waiting):
            await asyncio.to_thread(self._outbox.trying, some)
            await log.append([each.message for each in some])
            await asyncio.to_thread(self._outbox.sent, some)

"""The thread that answers Check, and what becomes of the process when it ends."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress

_log = logging.getLogger(__name__)


class CheckThread:
    """Runs `work`; nothing answers Envoy once that has ended.

    Args:
        work: until the server is stopped.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._over = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        # A daemon: a disk that hangs must not keep the process from ending.
        threading.Thread(target=self._run, name="check", daemon=True).start()

    async def wait(self) -> None:
        """Until the thread has ended."""
        await self._over.wait()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # whatever it is, nobody answers any more
            _log.critical("the thread that answers ended", extra={"error": type(error).__name__})
        finally:
            assert self._loop
            with suppress(RuntimeError):  # the loop is closed: the process ends already
                self._loop.call_soon_threadsafe(self._over.set)

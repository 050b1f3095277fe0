"""Durable audit: many calls wait for one write, and none is answered before it."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from extauthz.core.decision import Decision, Effect
from extauthz.core.reasons import Reason
from extauthz.emitter.entries import Call, Encoder
from extauthz.emitter.journal import Journal, to_record
from extauthz.emitter.mark import Mark

_log = logging.getLogger(__name__)
_REST_SECONDS = 1.0
_SAY_EVERY_SECONDS = 60.0


class Committer:
    """Writes calls to the journal: all that came during one write go with the next.

    Args:
        journal: of this start.
        mark: what it has settled needs its place in the journal no more.
        encoder: of this start.
        monotonic: seconds, never set back.

    Attributes:
        faults: writes that failed, and calls that cannot be written as JSON.
    """

    def __init__(
        self, journal: Journal, mark: Mark, encoder: Encoder, monotonic: Callable[[], float]
    ) -> None:
        self._journal, self._mark, self._encoder = journal, mark, encoder
        self._monotonic = monotonic
        # Its own thread: the spool's may be busy for milliseconds.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._waiting: list[tuple[Call, asyncio.Future[None]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._again_at = self._say_at = monotonic()
        self.faults = 0

    @property
    def bytes(self) -> int:
        return self._journal.bytes

    async def commit(self, call: Call) -> Decision:
        """Hold `call` in memory until it is on disk.

        A caller that goes away does not undo it.

        Returns:
            Its decision; a denial (audit_unavailable) where the disk does not take it.
        """
        try:
            call.body = self._encoder.encode(call)
        except TypeError:  # the pump will meet the same, and tell of it
            self.faults += 1
        if not call.body or self._monotonic() < self._again_at:
            _refuse(call)
            return call.decision
        call.held = True
        # One for each, so that one that is cancelled takes none along.
        on_disk: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, on_disk))
        if self._worker is None:
            self._worker = asyncio.create_task(self._write(), name="commit calls")
        await on_disk
        return call.decision

    async def close(self) -> None:
        """Finish the write under way, and remove what nobody needs any more."""
        if self._worker:
            await self._worker
        await self._run(self._journal.close)
        await self._trim()
        self._thread.shutdown()

    async def _write(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            records = b"".join([to_record(call.sequence, call.body) for call, _ in group])
            try:
                await self._run(self._journal.append, records, group[-1][0].sequence)
            except Exception as error:  # whatever it is, nobody may wait for ever
                self._fail(error)
                for call, _ in group:
                    _refuse(call)
            for call, on_disk in group:
                call.held = False
                if not on_disk.done():
                    on_disk.set_result(None)
            await self._trim()
        self._worker = None

    async def _trim(self) -> None:
        below = self._mark.settled
        if not self._journal.can_trim(below):
            return
        try:
            # A mark that a power cut sets back would tell of what is gone here as lost.
            await self._run(self._mark.sync)
            await self._run(self._journal.trim, below)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        now = self._monotonic()
        self.faults += 1
        self._again_at = now + _REST_SECONDS
        if now >= self._say_at:
            self._say_at = now + _SAY_EVERY_SECONDS
            _log.error("calls are denied, the journal takes nothing: %s; give it room", error)

    async def _run(self, work: Callable[..., None], *arguments: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def unrecorded(decision: Decision) -> Decision:
    """The answer in place of `decision`: it could not be recorded."""
    return replace(
        decision, effect=Effect.DENY, reason=Reason.AUDIT_UNAVAILABLE, would=None, detail=""
    )


def _refuse(call: Call) -> None:
    call.decision = unrecorded(call.decision)
    call.body = b""  # which tells of the decision that was not answered

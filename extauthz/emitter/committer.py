"""Durable audit: many calls wait for one write, and none is answered before it."""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue

from extauthz.core.decision import Decision, Effect
from extauthz.core.reasons import Reason
from extauthz.emitter.entries import Call, Encoder
from extauthz.emitter.journal import Journal, to_record
from extauthz.emitter.mark import Mark

_log = logging.getLogger(__name__)
_REST_SECONDS = 1.0
_SAY_EVERY_SECONDS = 60.0
# Under load a write pays for more calls when it waits a little; a few callers are not kept.
_FEW, _GATHER_SECONDS = 2, 0.001

_Group = list[tuple[Call, "asyncio.Future[None]"]]


class Committer:
    """Writes calls to the journal: all that came during one write go with the next.

    A thread of its own writes, as the spool's may be busy for milliseconds. It is a plain one:
    an executor's futures cost as much as all else that is done for a call.

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
        """Start the thread; must run inside an event loop."""
        self._journal, self._mark, self._encoder = journal, mark, encoder
        self._monotonic = monotonic
        self._loop = asyncio.get_running_loop()
        self._waiting: _Group = []
        self._writing = False
        self._again_at = self._say_at = monotonic()
        self.faults = 0
        self._groups: SimpleQueue[_Group | None] = SimpleQueue()
        # A daemon: a disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

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
        on_disk = self._loop.create_future()
        self._waiting.append((call, on_disk))
        if not self._writing:
            self._writing = True
            self._loop.call_soon(self._write)  # with all that come in this turn of the loop
        await on_disk
        return call.decision

    async def close(self) -> None:
        """Finish the write under way, and remove what nobody needs any more."""
        self._groups.put(None)
        await asyncio.to_thread(self._thread.join)

    def _write(self) -> None:
        group, self._waiting = self._waiting, []
        self._groups.put(group)

    def _written(self, group: _Group, error: Exception | None) -> None:
        if error:
            self._fail(error)
        for call, on_disk in group:
            if error:
                _refuse(call)
            call.held = False
            if not on_disk.done():
                on_disk.set_result(None)
        if not self._waiting:
            self._writing = False
        elif len(group) + len(self._waiting) > _FEW:
            self._loop.call_later(_GATHER_SECONDS, self._write)
        else:
            self._write()

    def _fail(self, error: Exception) -> None:
        now = self._monotonic()
        self.faults += 1
        self._again_at = now + _REST_SECONDS
        if now >= self._say_at:
            self._say_at = now + _SAY_EVERY_SECONDS
            _log.error("calls are denied, the journal takes nothing: %s; give it room", error)

    def _work(self) -> None:
        """The thread."""
        while (group := self._groups.get()) is not None:
            failed = None
            try:
                records = b"".join([to_record(call.sequence, call.body) for call, _ in group])
                self._journal.append(records, group[-1][0].sequence)
            except Exception as error:  # whatever it is, nobody may wait for ever
                failed = error
            self._loop.call_soon_threadsafe(self._written, group, failed)
            self._trim()
        self._journal.close()
        self._trim()

    def _trim(self) -> None:
        below = self._mark.settled
        if not self._journal.can_trim(below):
            return
        try:
            # A mark that a power cut sets back would tell of what is gone here as lost.
            self._mark.sync()
            self._journal.trim(below)
        except OSError as error:  # tried again after the next write
            _log.warning("the journal cannot be trimmed: %s", error)


def unrecorded(decision: Decision) -> Decision:
    """The answer in place of `decision`: it could not be recorded."""
    return replace(
        decision, effect=Effect.DENY, reason=Reason.AUDIT_UNAVAILABLE, would=None, detail=""
    )


def _refuse(call: Call) -> None:
    call.decision = unrecorded(call.decision)
    call.body = b""  # which tells of the decision that was not answered

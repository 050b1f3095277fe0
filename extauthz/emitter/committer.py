"""Durable audit: calls that are answered together are on disk, by one write, before any of them."""

import logging
import threading
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from extauthz.core.decision import Decision, Effect
from extauthz.core.reasons import Reason
from extauthz.emitter.entries import Call, Encoder
from extauthz.emitter.journal import Journal, to_record
from extauthz.emitter.mark import Mark
from extauthz.emitter.rest import Rest

_log = logging.getLogger(__name__)


class Committer:
    """Writes calls to the journal.

    The thread that answers writes as well: what comes while it waits for the disk is its next
    batch, so that the slower the disk, the more calls share a write.

    Args:
        journal: of this start.
        mark: what it has settled needs its place in the journal no more.
        encoder: of this start.
        monotonic: seconds, never set back.
    """

    def __init__(
        self, journal: Journal, mark: Mark, encoder: Encoder, monotonic: Callable[[], float]
    ) -> None:
        self._journal, self._mark, self._encoder = journal, mark, encoder
        self._rest = Rest(monotonic)
        self._writing = threading.Lock()
        self._unwritable = 0

    @property
    def faults(self) -> int:
        """Writes that failed, and calls that cannot be written as JSON."""
        return self._rest.faults + self._unwritable

    @property
    def bytes(self) -> int:
        return self._journal.bytes

    def commit(self, calls: Sequence[Call]) -> None:
        """Return when the calls, which are held, are on disk, and hold them no longer.

        The decision of a call that the disk does not take becomes a denial (audit_unavailable).
        """
        with self._writing:
            if self._write([call for call in calls if self._encode(call)]):
                self._trim()
        for call in calls:
            if not call.body:
                call.decision = unrecorded(call.decision)
            call.held = False

    def close(self) -> None:
        """Finish the write under way, and remove what nobody needs any more."""
        with self._writing:
            self._journal.close()
            self._trim()

    def _encode(self, call: Call) -> bool:
        try:
            call.body = self._encoder.encode(call)
        except Exception:  # the pump will meet the same, and tell of it
            self._unwritable += 1
        return bool(call.body)

    def _write(self, calls: Sequence[Call]) -> bool:
        if not calls:
            return False
        if self._rest.is_over:
            try:
                records = b"".join([to_record(call.sequence, call.body) for call in calls])
                self._journal.append(records, calls[-1].sequence)
                return True
            except Exception as error:  # whatever it is, nobody may wait for ever
                self._fail(error)
        for call in calls:
            call.body = b""  # which tells of the decision that was not answered
        return False

    def _fail(self, error: Exception) -> None:
        if self._rest.failed():
            told = {"error": str(error)}
            _log.error("calls are denied, the journal takes nothing; give it room", extra=told)

    def _trim(self) -> None:
        below = self._mark.settled
        if not self._journal.can_trim(below):
            return
        try:
            # A mark that a power cut sets back would tell of what is gone here as lost.
            self._mark.sync()
            self._journal.trim(below)
        except OSError as error:  # tried again after the next write
            _log.warning("the journal cannot be trimmed", extra={"error": str(error)})


def unrecorded(decision: Decision) -> Decision:
    """The answer in place of `decision`: it could not be recorded."""
    return replace(
        decision, effect=Effect.DENY, reason=Reason.AUDIT_UNAVAILABLE, would=None, detail=""
    )

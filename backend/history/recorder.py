"""Records what is changed over HTTP: at once in the event log, or first in the outbox."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final

from backend.history.delivery import Delivery
from backend.history.ledger import Ledger
from backend.history.outbox import Outbox
from backend.history.records import SOURCE, message_of, read_message, told
from backend.ports.event_log import Message
from extauthz.core.errors import Invalid, Retryable, SentinelError
from extauthz.core.governance import Action, Change, Key
from extauthz.core.history import Recorded
from extauthz.core.writing import Object

API: Final = "api"
ANSWER_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class Recorder:
    """A component's `ChangeLog`: blocking, from any thread but the loop's own.

    Args:
        ledger: shared with all who record in this process; learns what the outbox keeps.
        loop: the loop that the log runs on.
        clock: seconds since the epoch.
        new_id: makes a UUIDv7.
        answer_seconds: how long the log may take.
        producer: the component that records.

    Raises:
        Retryable: the outbox cannot be read.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        outbox: Outbox,
        delivery: Delivery,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        answer_seconds: float = ANSWER_SECONDS,
        producer: str = API,
    ) -> None:
        self._ledger, self._outbox, self._delivery = ledger, outbox, delivery
        self._loop, self._clock, self._new_id = loop, clock, new_id
        self._answer_seconds, self._producer = answer_seconds, producer
        for message in outbox.all():
            try:
                ledger.note(read_message(message))
            except Invalid as error:  # it goes on its way, and to the dead letters
                _log.error("a kept record cannot be read", extra={"error": str(error)})

    def editing(self, key: Key) -> AbstractContextManager[None]:
        return self._ledger.editing(key)

    def check(self) -> None:
        self._run(self._delivery.check())

    def record(self, change: Change) -> None:
        recorded, message = self._made(change)
        try:
            self._run(self._delivery.append(message))
        except _Late:  # the log may have it yet
            self.correct(change, change.before)
            raise
        self._ledger.note(recorded)
        _log.info("change recorded", extra={"change": told(change)})
        try:
            self._outbox.keep_sent(message)
        except Retryable as error:  # it would be known again after a start at once, no more
            _log.warning("a recorded change was not kept", extra={"error": str(error)})

    def record_later(self, change: Change) -> str:
        recorded, message = self._made(change)
        try:
            self._outbox.put(message)
        except Retryable as error:
            lost = {"change": told(change), "error": str(error)}
            _log.error("a change is not recorded as its maker's", extra=lost)
            self._outbox.lost += 1
            return str(error)
        self._ledger.note(recorded)
        self._loop.call_soon_threadsafe(self._delivery.wake)
        _log.info("change kept for the event log", extra={"change": told(change)})
        return ""

    def correct(self, recorded: Change, stands: Object | None) -> None:
        before = recorded.after
        action = Action.DELETED if stands is None else Action.CHANGED
        action = Action.CREATED if before is None else action
        back = replace(recorded, action=action, actor=SOURCE, before=before, after=stands)
        self.record_later(back)

    def _made(self, change: Change) -> tuple[Recorded, Message]:
        recorded = Recorded(self._ledger.time_for(change.key, self._clock()), change)
        return recorded, message_of(recorded, producer=self._producer, event_id=self._new_id())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            future.result(self._answer_seconds)
        except TimeoutError as error:
            future.cancel()
            raise _Late(str(_refused("it does not answer"))) from error
        except SentinelError as error:
            raise _refused(str(error)) from error


class _Late(Retryable):
    """The log did not answer in time."""


def _refused(why: str) -> Retryable:
    mend = "try again once it is back; what only takes rights away is done without it"
    return Retryable(f"the event log cannot record this change now ({why}); {mend}")

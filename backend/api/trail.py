"""What the api itself tells the audit trail, for the api's threads.

The log belongs to the event loop: each append is run there, and waited for here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import orjson

from backend.ports.event_log import EventLog, Message
from extauthz.core.errors import Retryable
from extauthz.core.events import EventType
from extauthz.core.governance import Restart
from extauthz.core.times import format_instant

ANSWER_SECONDS: Final = 5.0
PRODUCER: Final = "api"
SOURCE: Final = "sentinel"


class Trail:
    """Blocking; call it from any thread but the loop's own.

    Args:
        opened: gives the log, started; it is asked at each call.
        loop: the loop that the log runs on.
        clock: seconds since the epoch.
        new_id: makes a UUIDv7.
    """

    def __init__(
        self,
        opened: Callable[[], Awaitable[EventLog]],
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._opened, self._loop = opened, loop
        self._clock, self._new_id = clock, new_id

    def restarts(self, restarts: Sequence[Restart]) -> None:
        """Return once the log has an event for each. Raises: Busy, Retryable."""
        now = format_instant(self._clock())
        messages = [self._message(each, now) for each in restarts]

        async def append() -> None:
            await (await self._opened()).append(messages)

        future = asyncio.run_coroutine_threadsafe(append(), self._loop)
        try:
            future.result(ANSWER_SECONDS)
        except TimeoutError as error:
            future.cancel()
            raise Retryable(
                "the event log does not take who restarts what, so nothing is; try again"
            ) from error

    def _message(self, restart: Restart, now: str) -> Message:
        envelope = {
            "producer": PRODUCER,
            "event_id": self._new_id(),
            "timestamp": now,
            "source": SOURCE,
            "event_type": EventType.GOVERNANCE_RESTART.value,
            "payload": restart,
        }
        return Message(orjson.dumps(envelope))

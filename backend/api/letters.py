"""The dead letters of the event log, for the api's threads.

The log belongs to the event loop: each call is run there, and waited for here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from backend.ports.event_log import EventLog, Position, SetAside
from extauthz.core.errors import Retryable

ANSWER_SECONDS: Final = 20.0

T = TypeVar("T")


class DeadLetters:
    """Blocking; call it from any thread but the loop's own.

    Args:
        opened: gives the log, started; it is asked at each call.
        loop: the loop that the log runs on.
    """

    def __init__(
        self,
        opened: Callable[[], Awaitable[EventLog]],
        loop: asyncio.AbstractEventLoop,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._opened, self._loop, self._answer_seconds = opened, loop, answer_seconds

    def oldest(self, limit: int, after: Position | None) -> Sequence[SetAside]:
        """As `EventLog.dead_letters`."""
        return self._run(lambda log: log.dead_letters(limit, after))

    def at(self, position: Position) -> SetAside:
        """As `EventLog.dead_letter_at`."""
        return self._run(lambda log: log.dead_letter_at(position))

    def retry(self, position: Position) -> None:
        """As `EventLog.retry`."""
        self._run(lambda log: log.retry(position))

    def drop(self, position: Position) -> None:
        """As `EventLog.drop`."""
        self._run(lambda log: log.drop(position))

    def _run(self, work: Callable[[EventLog], Coroutine[Any, Any, T]]) -> T:
        async def done() -> T:
            return await work(await self._opened())

        future = asyncio.run_coroutine_threadsafe(done(), self._loop)
        try:
            return future.result(self._answer_seconds)
        except TimeoutError as error:
            future.cancel()
            raise Retryable(
                "the event log does not answer; look what became of the dead letter, and try again"
            ) from error

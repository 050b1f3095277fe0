"""The time that calls are decided by: the wall clock, which is never set back."""

import logging
import time
from collections.abc import Callable
from typing import Final

_log = logging.getLogger(__name__)

_TELL_SECONDS: Final = 5.0  # a clock is adjusted by less, and often


class SteadyClock:
    """Seconds since the epoch, at least as many as have passed since any earlier reading.

    A wall clock that is set back would give expired grants, sessions and tokens their rights
    again. One that was ahead for a while keeps them expired until the process starts anew. For any
    thread.

    Args:
        wall: seconds since the epoch.
        monotonic: seconds, never set back.
    """

    __slots__ = ("_ahead", "_monotonic", "_read", "_wall")

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._read = (wall(), monotonic())  # replaced as a whole: other threads read it
        self._ahead = False

    def __call__(self) -> float:
        told, at = self._read
        since = self._monotonic()
        wall, floor = self._wall(), told + since - at
        if wall >= floor:
            self._ahead = False
            self._read = (wall, since)
            return wall
        if floor - wall > _TELL_SECONDS and not self._ahead:
            self._ahead = True
            told_of = {"seconds": round(floor - wall, 3)}
            _log.warning("the clock was set back; rights that expired stay expired", extra=told_of)
        return floor

"""How many records may be set aside before the processor stops. Pure: the caller has the time.

A few records that can never be stored are the producers' fault. Very many are a bad
release, of theirs or of ours: the stream then waits in the log until a person has looked.
"""

import sys
from collections import deque
from typing import Self

from extauthz.core.errors import SentinelError


class TooManyDeadLetters(SentinelError):
    """More records than allowed can never be stored.

    Args:
        most: how many are allowed.
        why: what is wrong with one of them.
    """

    def __init__(self, most: int, why: str) -> None:
        super().__init__(
            f"stopped: more than MAX_DEAD_LETTERS ({most}) records cannot be stored, one because"
            f" `{why}`; mend what writes them or raise MAX_DEAD_LETTERS, and start again"
        )


class DeadLetterLimit:
    """So many dead letters within so many seconds.

    Args:
        most: how many.
        window_seconds: length of the window that moves along.
    """

    def __init__(self, *, most: int, window_seconds: float) -> None:
        self.most, self._window_seconds = most, window_seconds
        self._written: deque[tuple[float, int]] = deque()

    @classmethod
    def none(cls) -> Self:
        """Any number."""
        return cls(most=sys.maxsize, window_seconds=0.0)

    def left(self, now: float) -> int:
        """How many more may be set aside at `now`, seconds of any monotonic clock."""
        while self._written and self._written[0][0] <= now - self._window_seconds:
            self._written.popleft()
        return max(0, self.most - sum(count for _, count in self._written))

    def add(self, count: int, now: float) -> None:
        """So many were set aside."""
        self._written.append((now, count))

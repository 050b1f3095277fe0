"""After a failed write: the disk is left alone for a while, and the log is not filled with it."""

from collections.abc import Callable
from typing import Final

# Long enough that a full disk is not asked for each call; as soon as it has room, callers and
# events wait no longer than that.
REST_SECONDS: Final = 1.0
SAY_EVERY_SECONDS: Final = 60.0


class Rest:
    """Whether a disk that failed may be tried again.

    Args:
        monotonic: seconds, never set back.

    Attributes:
        faults: how often it failed.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until = self._say_at = monotonic()
        self.faults = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing failed a moment ago."""
        return self._monotonic() >= self._until

    def end(self) -> None:
        """It is known to take something again."""
        self._until = self._monotonic()

    def failed(self) -> bool:
        """Begin to rest; tell whether to say so, which is once in a while."""
        now = self._monotonic()
        self.faults += 1
        self._until = now + REST_SECONDS
        if now < self._say_at:
            return False
        self._say_at = now + SAY_EVERY_SECONDS
        return True

"""Which of several processes watches a directory: the one that holds a lock in it."""

import fcntl
import os
from pathlib import Path
from typing import Final

_NAME: Final = ".sentinel.watch"  # readers leave hidden names out


class Turn:
    """Held until `end`, or the end of the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handle: int | None = None

    def is_ours(self) -> bool:
        """Whether nobody else watches; also where the folder takes no lock."""
        if self._handle is not None:
            return True
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            handle = os.open(self._folder / _NAME, flags, 0o600)
        except OSError:
            return True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            return not isinstance(error, BlockingIOError)
        self._handle = handle
        return True

    def end(self) -> None:
        """Let another watch. A second call is idle."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

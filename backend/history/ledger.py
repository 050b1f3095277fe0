"""What is recorded of each custom resource, for all in this process who record."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock

from extauthz.core.governance import Key
from extauthz.core.history import Recorded


class Ledger:
    """The last recorded change of each object, and which are being changed. For any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._last: dict[Key, Recorded] = {}
        self._editing: list[Key] = []
        self._edited: set[Key] = set()

    def last(self) -> Mapping[Key, Recorded]:
        """As it is now."""
        with self._lock:
            return dict(self._last)

    def time_for(self, key: Key, now: float) -> float:
        """When a change happens that is recorded now: later than the one before it.

        So the order of an object's changes is that of their times, whatever the clock does.
        """
        with self._lock:
            last = self._last.get(key)
        at = max(_milliseconds(now), _milliseconds(last.at) + 1 if last else 0)
        return (at + 0.5) / 1000  # in the middle: however it is rounded, it is told as `at`

    def note(self, recorded: Recorded) -> None:
        """It is recorded; what was recorded later stays."""
        key = recorded.change.key
        with self._lock:
            last = self._last.get(key)
            if last is None or last.at < recorded.at:
                self._last[key] = recorded

    def place(self, key: Key, file: str) -> None:
        """Where the object stands whose change was recorded without its file."""
        with self._lock:
            last = self._last.get(key)
            if last is not None and last.change.after is not None and not last.change.file:
                self._last[key] = Recorded(last.at, replace(last.change, file=file))

    @contextmanager
    def editing(self, key: Key) -> Iterator[None]:
        """While this lasts, what stands and what is recorded differ."""
        with self._lock:
            self._editing.append(key)
        try:
            yield
        finally:
            with self._lock:
                self._editing.remove(key)
                self._edited.add(key)

    def begin_look(self) -> None:
        """From now on `unsettled` is about what is read next."""
        with self._lock:
            self._edited.clear()

    def unsettled(self) -> frozenset[Key]:
        """What is being changed, or was since the look began."""
        with self._lock:
            return frozenset(self._editing) | self._edited


def _milliseconds(at: float) -> int:
    """As events tell times; of one that was read from there, the same again."""
    return int(at * 1000 + 0.25)

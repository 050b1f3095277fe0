"""One edit of a grant or session on its way into the trail: told once, put right if it fails."""

import logging
from collections.abc import Callable
from typing import Generic

from backend.ports.access_store import Binding
from backend.ports.change_log import ChangeLog
from extauthz.core.errors import SentinelError
from extauthz.core.governance import Change
from extauthz.core.writing import to_object

_log = logging.getLogger(__name__)


class Attempt(Generic[Binding]):
    """Records before the object is written.

    Args:
        change: tells it of the object before and after.
        tightens: whether it only takes rights away, and so need not wait for the log.
    """

    def __init__(
        self,
        changes: ChangeLog,
        change: Callable[[Binding | None, Binding | None], Change],
        tightens: Callable[[Binding | None, Binding | None], bool],
    ) -> None:
        self._changes = changes
        self._change: Callable[[Binding | None, Binding | None], Change] = change
        self._tightens: Callable[[Binding | None, Binding | None], bool] = tightens
        self._told: Change | None = None
        self.warnings: list[str] = []

    def record(self, old: Binding | None, new: Binding | None) -> None:
        """Once, however often the same is tried. Raises: Retryable."""
        change = self._change(old, new)
        if change == self._told:
            return
        if not self._tightens(old, new):
            self._changes.record(change)
        elif lost := self._changes.record_later(change):
            self.warnings = [f"not recorded as yours: {lost}"]
        self._told = change

    def failed(self, stands: Callable[[], Binding | None]) -> None:
        """Put right what was recorded of an edit that was not made after all."""
        if self._told is None:
            return
        try:
            found = stands()
        except SentinelError as error:  # whoever watches the objects puts it right
            told = {"change": self._told.key._asdict(), "error": str(error)}
            _log.error("an edit was recorded, and nobody knows whether it was made", extra=told)
            return
        written = to_object(found) if found else None
        if written != self._told.after:
            self._changes.correct(self._told, written)

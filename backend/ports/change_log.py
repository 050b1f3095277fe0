"""Where changes of custom resources are recorded, before they are made."""

from contextlib import AbstractContextManager
from typing import Protocol

from extauthz.core.governance import Change, Key
from extauthz.core.writing import Object


class ChangeLog(Protocol):
    """Records changes as `governance.change` events. Blocking: call it from a thread."""

    def editing(self, key: Key) -> AbstractContextManager[None]:
        """While the object is changed and its change recorded here, nobody else records it."""

    def check(self) -> None:
        """Whether `record` can be expected to work. Raises: Retryable."""

    def record(self, change: Change) -> None:
        """Return once the event log has it.

        If the change is not made then, call `correct`.

        Raises:
            Retryable: the log is away; where it may have the record all the same, that is
                put right.
        """

    def record_later(self, change: Change) -> str:
        """Keep it, and have it in the event log as soon as that takes it. Never waits for that.

        Returns:
            Why it cannot even be kept, with the mend; whatever notices changes records it then,
            without its maker. Empty where it is.
        """

    def correct(self, recorded: Change, stands: Object | None) -> None:
        """Record that a recorded change was not made: `stands` is the object as it is."""

"""Where changes of custom resources are recorded, before they are made."""

from contextlib import AbstractContextManager
from typing import Protocol

from extauthz.core.governance import Change, Key


class ChangeLog(Protocol):
    """Records changes as `governance.change` events. Blocking: call it from a thread."""

    def editing(self, key: Key) -> AbstractContextManager[None]:
        """While the object is changed and its change recorded here, nobody else records it."""

    def check(self) -> None:
        """Whether `record` can be expected to work. Raises: Retryable."""

    def record(self, change: Change) -> None:
        """Return once the event log has it.

        If the change is not made then, what notices changes corrects the history.

        Raises:
            Retryable: the log is away; it may have the record all the same.
        """

    def record_later(self, change: Change) -> None:
        """Keep it, and have it in the event log as soon as that takes it. Never waits for that.

        Where it cannot even be kept, that is logged: whatever notices changes records it then.
        """

"""Errors that say what to do about them.

A denial is never an exception; these are for inputs that people and programs
hand us. Messages: lower case, the offending input in backticks, the mend last.
"""

from typing import Final

MOST_QUOTED: Final = 2000  # characters of a field or a problem


class SentinelError(Exception):
    """Anything that this project raises on purpose."""


class Invalid(SentinelError):
    """An input that can never work as it stands; too much of it is not repeated.

    Args:
        field: where, as a path (`spec.toolRules[0].decision`, `$.grants[3].max_trust`,
            the name of a setting); empty when it is the input as a whole.
        problem: what is wrong with it.
        mend: what to do, as an imperative; may be empty.
    """

    def __init__(self, field: str, problem: str, mend: str = "") -> None:
        self.field, self.problem, self.mend = _short(field), _short(problem), mend
        head = f"{self.field}: " if field else ""
        tail = f"; {mend}" if mend else ""
        super().__init__(f"{head}{self.problem}{tail}")


def _short(text: str) -> str:
    """Errors go to logs and terminals; what they quote may be megabytes."""
    return text if len(text) <= MOST_QUOTED else f"{text[: MOST_QUOTED // 2]}…{text[-200:]}"


class Unauthenticated(SentinelError):
    """No valid credential came with the request."""


class Forbidden(SentinelError):
    """The credential is valid and does not reach this far."""


class NotFound(SentinelError):
    """The named thing does not exist."""


class Conflict(SentinelError):
    """Somebody else changed or owns the thing."""


class Retryable(SentinelError):
    """It may work later, unchanged: a dependency is away."""


class Busy(Retryable):
    """A bounded resource is full: slow down."""


class TooSlow(Retryable):
    """A query took longer than it may, and was cancelled: ask for less."""


class Poison(SentinelError):
    """A record that can never be processed: dead-letter it.

    Args:
        position: where it lies in its log.
        why: the reason that goes with it.
    """

    def __init__(self, position: object, why: str) -> None:
        self.position, self.why = position, why
        super().__init__(f"{position}: {why}")

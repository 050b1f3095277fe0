"""Why ingest does not take a request, with the codes that producers know it by (docs/events.md)."""

from http import HTTPStatus

from extauthz.core.errors import Forbidden, Invalid, Retryable

REQUIRED = ("source", "event_type", "payload")


class Refused(Invalid):
    """The request cannot be taken as it stands.

    Args:
        status, code: of the answer.
        field, problem, mend: as in `Invalid`.
    """

    def __init__(
        self, status: HTTPStatus, code: str, field: str, problem: str, mend: str = ""
    ) -> None:
        super().__init__(field, problem, mend)
        self.status, self.code = status, code

    def within(self, index: int) -> "Refused":
        """The same of one event of several."""
        return Refused(self.status, self.code, _within(index, self.field), self.problem, self.mend)


class NotYours(Forbidden):
    """An event that this credential may not send.

    Args:
        field, problem, mend: as in `Invalid`.
    """

    def __init__(self, field: str, problem: str, mend: str) -> None:
        super().__init__(f"{field}: {problem}; {mend}")
        self.field, self.problem, self.mend = field, problem, mend

    def within(self, index: int) -> "NotYours":
        """The same of one event of several."""
        return NotYours(_within(index, self.field), self.problem, self.mend)


class NotEnqueued(Retryable):
    """The event log did not take the events, or not in time."""


def invalid(field: str, problem: str, mend: str) -> Refused:
    """A member that is missing or wrong."""
    code = "missing_fields" if field in REQUIRED else "invalid_request"
    return Refused(HTTPStatus.BAD_REQUEST, code, field, problem, mend)


def bad_json(field: str, problem: str, mend: str = "send strict JSON in UTF-8") -> Refused:
    """Not JSON, or not such as every reader reads alike."""
    return Refused(HTTPStatus.BAD_REQUEST, "invalid_json", field, problem, mend)


def bad_encoding(problem: str) -> Refused:
    """A body that is not in its Content-Encoding."""
    mend = "send one whole stream in the encoding that the header names"
    return Refused(HTTPStatus.BAD_REQUEST, "invalid_encoding", "Content-Encoding", problem, mend)


def too_large(problem: str, mend: str) -> Refused:
    """An event or a request beyond its bound."""
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", "", problem, mend)


def unsupported(header: str, value: str, mend: str) -> Refused:
    """A type or an encoding that is not read here."""
    problem = f"`{value[:64]}` is not read here"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    return Refused(status, status.name.lower(), header, problem, mend)


def _within(index: int, field: str) -> str:
    return f"[{index}].{field}" if field else f"[{index}]"

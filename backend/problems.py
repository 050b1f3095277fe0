"""Errors as RFC 9457 problem documents. Every member is a string: existing clients
decode an error as an object of strings, so there is no numeric `status` member.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import orjson

from backend.auth.failures import Throttled
from extauthz.core.errors import (
    Busy,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Retryable,
    TooSlow,
    Unauthenticated,
)

TYPE_PREFIX: Final = "urn:mcp-sentinel:problem:"
CONTENT_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = {
    HTTPStatus.SERVICE_UNAVAILABLE: "2",
    HTTPStatus.TOO_MANY_REQUESTS: "30",  # for who has no valid credential
}

# The first row that matches counts.
_TABLE: Final[tuple[tuple[type[Exception], HTTPStatus, str], ...]] = (
    (Invalid, HTTPStatus.BAD_REQUEST, "invalid_request"),
    (Throttled, HTTPStatus.TOO_MANY_REQUESTS, "too_many_requests"),
    (Unauthenticated, HTTPStatus.UNAUTHORIZED, "unauthorized"),
    (Forbidden, HTTPStatus.FORBIDDEN, "forbidden"),
    (NotFound, HTTPStatus.NOT_FOUND, "not_found"),
    (Conflict, HTTPStatus.CONFLICT, "conflict"),
    (Busy, HTTPStatus.SERVICE_UNAVAILABLE, "busy"),
    (TooSlow, HTTPStatus.SERVICE_UNAVAILABLE, "query_timeout"),
    (Retryable, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable"),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong with one HTTP request.

    Args:
        code: for programs.
        detail: a sentence for people, the mend at its end.
        field: path of the member at fault; empty when it is none.
        mend: what to do, by itself; empty where `detail` alone says it.
    """

    status: HTTPStatus
    code: str
    detail: str
    field: str = ""
    mend: str = ""

    @property
    def document(self) -> bytes:
        members = {
            "type": TYPE_PREFIX + self.code,
            "title": self.status.phrase,
            "detail": self.detail,
            "error": self.code,
            "message": self.detail,
        }
        members |= {name: value for name in ("field", "mend") if (value := getattr(self, name))}
        # Headers, which errors quote, may hold bytes that are no UTF-8, as lone surrogates.
        plain = {name: text.encode(errors="replace").decode() for name, text in members.items()}
        return orjson.dumps(plain, option=orjson.OPT_APPEND_NEWLINE)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the document, Content-Type aside."""
        if self.status in RETRY_AFTER_SECONDS:
            return {"Retry-After": RETRY_AFTER_SECONDS[self.status]}
        if self.status is HTTPStatus.UNAUTHORIZED:
            return {"WWW-Authenticate": "Bearer"}
        return {}


def problem_of(error: Exception) -> Problem:
    """The problem that an error means; a bug says nothing about itself."""
    for kind, status, code in _TABLE:
        if isinstance(error, kind):
            field, mend = getattr(error, "field", ""), getattr(error, "mend", "")
            return Problem(status, code, str(error), field, mend)
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "this is a bug; see the service's log"
    )


def problem_of_status(status: int) -> Problem:
    """For what a web framework refuses by itself."""
    known = HTTPStatus(status)
    code = known.name.lower()
    return Problem(known, code, f"{known.description or known.phrase}".lower())

"""Errors become problem documents of strings."""

import orjson
import pytest

from backend.auth.failures import Throttled
from backend.problems import problem_of, problem_of_status
from extauthz.core import errors

TABLE = [
    (errors.Invalid("spec.name", "is blank", "give it one"), 400, "invalid_request"),
    (errors.Unauthenticated("no"), 401, "unauthorized"),
    (Throttled("no"), 429, "too_many_requests"),
    (errors.Forbidden("no"), 403, "forbidden"),
    (errors.NotFound("no"), 404, "not_found"),
    (errors.Conflict("no"), 409, "conflict"),
    (errors.Busy("no"), 503, "busy"),
    (errors.Retryable("no"), 503, "unavailable"),
    (ValueError("secret detail"), 500, "internal_error"),
]


@pytest.mark.parametrize(("error", "status", "code"), TABLE)
def test_each_error_has_its_status(error: Exception, status: int, code: str) -> None:
    """One table maps errors to HTTP; a bug tells nothing about itself."""
    problem = problem_of(error)
    members = orjson.loads(problem.document)
    assert (problem.status, members["error"]) == (status, code)
    assert all(isinstance(member, str) for member in members.values())
    assert members["detail"] == members["message"]
    assert "secret" not in problem.document.decode()
    assert ("Retry-After" in problem.headers) == (status in (429, 503))


def test_the_field_is_named() -> None:
    """Where the error lies is a member of its own."""
    members = orjson.loads(problem_of(TABLE[0][0]).document)
    assert members["field"] == "spec.name"
    assert members["detail"] == "spec.name: is blank; give it one"


def test_a_framework_s_refusal_has_a_code() -> None:
    """What aiohttp or Flask refuses reads the same."""
    assert orjson.loads(problem_of_status(405).document)["error"] == "method_not_allowed"


def test_what_is_quoted_is_text() -> None:
    """A header may hold bytes that are no UTF-8; the document is one for all that."""
    problem = problem_of(errors.Invalid("Content-Encoding", "`\udcff` is not read here"))
    assert orjson.loads(problem.document)["detail"] == "Content-Encoding: `?` is not read here"

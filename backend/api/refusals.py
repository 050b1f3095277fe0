"""What the api refuses, with the codes that programs know it by."""

from http import HTTPStatus

from extauthz.core.errors import Invalid


class Refused(Invalid):
    """A request that can never be answered as it stands.

    Args:
        status, code: of the answer.
        field, problem, mend: as in `Invalid`.
        retry_after: seconds after which it may be asked again; 0 for never.
    """

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        field: str,
        problem: str,
        mend: str,
        *,
        retry_after: int = 0,
    ) -> None:
        super().__init__(field, problem, mend)
        self.status, self.code, self.retry_after = status, code, retry_after


def bad_parameter(name: str, problem: str, mend: str) -> Refused:
    """A query or path parameter that is unknown or cannot be read."""
    return Refused(HTTPStatus.BAD_REQUEST, "invalid_query_param", name, problem, mend)


def bad_body(field: str, problem: str, mend: str) -> Refused:
    """A body that is JSON, and not what is asked for."""
    return Refused(HTTPStatus.BAD_REQUEST, "invalid_body", field, problem, mend)


def precondition_failed(header: str, problem: str, mend: str) -> Refused:
    """What a conditional request asks for is not so."""
    status = HTTPStatus.PRECONDITION_FAILED
    return Refused(status, status.name.lower(), header, problem, mend)


def bad_json(problem: str) -> Refused:
    """A body that is not JSON, or not such as every reader reads alike."""
    mend = "send one strict JSON object in UTF-8"
    return Refused(HTTPStatus.BAD_REQUEST, "invalid_json", "", problem, mend)


def too_large(most: int) -> Refused:
    """A body beyond its bound."""
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return Refused(status, "too_large", "", f"the body has more than {most} bytes", "send less")


def unsupported(content_type: str) -> Refused:
    """A body of a type that is not read here."""
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    problem = f"`{content_type[:64]}` is not read here"
    return Refused(status, status.name.lower(), "Content-Type", problem, "send application/json")

"""Problem documents (RFC 9457), as the api writes them: every member a string, no `status`."""

from http import HTTPStatus

from flask import Response, json

CONTENT_TYPE = "application/problem+json"


def problem(status: HTTPStatus, code: str, detail: str) -> Response:
    """A refusal that programs read by `error` and people by `message`."""
    document = {
        "type": f"urn:mcp-sentinel:problem:{code}",
        "title": status.phrase,
        "detail": detail,
        "error": code,
        "message": detail,
    }
    return Response(json.dumps(document), status, content_type=CONTENT_TYPE)

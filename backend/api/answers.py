"""Answers in JSON."""

from http import HTTPStatus

import orjson
from flask import Response


def json_response(value: object, status: int = HTTPStatus.OK) -> Response:
    """JSON by orjson; fragments of stored JSON go out as they are."""
    return Response(orjson.dumps(value), status, mimetype="application/json")

"""Answers in JSON."""

from http import HTTPStatus
from typing import Any, Final

import msgspec
from flask import Response

JSON: Final = "application/json"
_ENCODER: Final = msgspec.json.Encoder()


def json_response(value: Any, status: int = HTTPStatus.OK) -> Response:
    """A struct, dataclass or plain value; `msgspec.Raw` goes out as it is."""
    return Response(_ENCODER.encode(value), status, mimetype=JSON)

"""`/api/*`, passed on to the api.

Who sends a credential of its own is passed unchanged. Who has a session is passed with the
credential in it, if the request carries the session's CSRF token, too: so that no other site's
page can ask with the cookie alone. All else is told to sign in.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import requests
from flask import Blueprint, Response, request, session
from flask_wtf.csrf import CSRFProtect, validate_csrf
from wtforms.validators import ValidationError

from ui.problems import problem
from ui.upstream import Api, Unreachable

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
CSRF_HEADER: Final = "X-CSRFToken"
_CHUNK_BYTES: Final = 64 * 1024
# Of the connection, not of the message (RFC 9110, section 7.6.1); and what is set anew.
_OF_THE_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"}
    | {"te", "trailer", "transfer-encoding", "upgrade", "host", "content-length"}
)
_NOT_FOR_THE_API: Final = _OF_THE_HOP | {"cookie", CSRF_HEADER.lower()}


def new_proxy(api: Api, csrf: CSRFProtect) -> Blueprint:
    """The blueprint of `/api`."""
    blueprint = Blueprint("proxy", __name__)

    @blueprint.route("/api/<path:rest>", methods=METHODS)
    def forward(rest: str) -> Response:
        if any(part in {".", ".."} for part in rest.split("/")):
            return problem(
                HTTPStatus.NOT_FOUND, "not_found", "no path has dots alone between slashes"
            )
        headers = {
            name: value for name, value in request.headers if name.lower() not in _NOT_FOR_THE_API
        }
        if not ("Authorization" in request.headers or "X-Api-Key" in request.headers):
            if refused := _refusal():
                return refused
            headers["Authorization"] = f"Bearer {session['credential']}"
        path = "/api/" + quote(rest, safe="/:@!$&'()*+,;=~")
        if query := request.query_string.decode("latin-1"):
            path += f"?{query}"
        try:
            answer = api.forward(request.method, path, headers, data=request.get_data())
        except Unreachable as error:
            mend = "try again; `sentinel status` tells how it is"
            return problem(HTTPStatus.BAD_GATEWAY, "api_unreachable", f"{error}; {mend}")
        kept = [(n, v) for n, v in answer.raw.headers.items() if n.lower() not in _OF_THE_HOP]
        response = Response(_chunks(answer), status=answer.status_code, headers=kept)
        if length := answer.headers.get("Content-Length"):
            response.headers["Content-Length"] = length
        return response

    csrf.exempt(blueprint)  # it looks itself: a caller's own credential needs no token
    return blueprint


def _refusal() -> Response | None:
    if "credential" not in session:
        said = "send x-api-key or Authorization, or sign in"
        return problem(HTTPStatus.UNAUTHORIZED, "unauthorized", said)
    try:
        validate_csrf(request.headers.get(CSRF_HEADER, ""))
    except ValidationError:
        said = f"a session's request needs its CSRF token in {CSRF_HEADER}"
        return problem(HTTPStatus.UNAUTHORIZED, "csrf_token_missing", said)
    return None


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    with answer:
        yield from answer.raw.stream(_CHUNK_BYTES, decode_content=False)

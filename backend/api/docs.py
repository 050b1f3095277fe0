"""`/openapi.json` and `/docs`: the api's description, and a page that shows it without network."""

from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

from flask import Response

from backend.api.answers import json_response
from backend.api.parameters import Parameter, Place
from backend.api.routes import NOTHING, Answer, Call, Group, get
from extauthz.core.errors import NotFound

ASSETS: Final = files("backend.api") / "assets"  # those of Swagger UI by `make vendor`
ASSET_TYPES: Final[Mapping[str, str]] = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "docs.js": "text/javascript",
}
NAME: Final = Parameter(
    "name",
    lambda given, _now: given,
    {"type": "string", "enum": list(ASSET_TYPES)},
    "Name of a file that the page is made of.",
    "",
    place=Place.PATH,
)
# Only what this service itself serves; no inline script or style, no frame around it.
PAGE_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


@cache
def _asset(name: str) -> bytes:
    return (ASSETS / name).read_bytes()


def docs_group(described: Callable[[], Mapping[str, Any]]) -> Group:
    """Open to everybody: it says no more than the source does.

    Args:
        described: makes the OpenAPI document.
    """

    @cache
    def openapi_json() -> bytes:
        return json_response(described()).get_data()

    def openapi(_call: Call[None]) -> Response:
        return Response(openapi_json(), mimetype="application/json")

    def page(_call: Call[None]) -> Response:
        return Response(_asset("docs.html"), mimetype="text/html", headers=dict(PAGE_HEADERS))

    def asset(call: Call[None]) -> Response:
        name = call.given[NAME]
        if name not in ASSET_TYPES:
            raise NotFound(f"`{name[:64]}` is no file of this page; see /api/docs")
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "max-age=86400"}
        return Response(_asset(name), mimetype=ASSET_TYPES[name], headers=headers)

    text = {"type": "string"}
    html = Answer(None, {"text/html": text})
    return Group(
        "docs",
        [
            get("/openapi.json", openapi, "This document.", Answer(dict[str, Any]), needs=NOTHING),
            get("/docs", page, "A page that shows it.", html, needs=NOTHING),
            get(
                "/docs/<name>",
                asset,
                "What the page is made of.",
                Answer(None, dict.fromkeys(ASSET_TYPES.values(), text)),
                NAME,
                needs=NOTHING,
                problems=(HTTPStatus.NOT_FOUND,),
            ),
        ],
    )

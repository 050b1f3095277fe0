"""The OpenAPI 3.1 document, made from the routes that are served."""

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from backend.api.parameters import Parameter, Place
from backend.api.routes import Group, Needs, Route, endpoint
from backend.problems import CONTENT_TYPE

JSON: Final = "application/json"
MOUNT: Final = "/api"
DESCRIPTION: Final = (
    "Queries and governance of MCP Sentinel. Each path below `/api` also answers below `/api/v1`."
    " A parameter that is not listed is refused. Every problem is an RFC 9457 document whose"
    " members are all strings: `error` is its code, `message` says what is wrong and how to mend"
    " it, `field` names the parameter or member at fault."
)
SECURITY: Final[Mapping[str, Any]] = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, or a token of the identity provider.",
    },
}
_VARIABLE: Final = re.compile(r"<(\w+)>")


class ProblemDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong; every member is a string."""

    type: str
    title: str
    detail: str
    error: str
    message: str
    field: str = ""
    mend: str = ""


def document(groups: Sequence[Group], version: str) -> dict[str, Any]:
    """What `/api/openapi.json` serves.

    Args:
        version: of this software.
    """
    routes = [(group, route) for group in groups for route in group.routes]
    kinds = [ProblemDocument, *dict.fromkeys(_kinds(route for _, route in routes))]
    schemas, components = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}"
    )
    schema_of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for group, route in routes:
        at = paths.setdefault(path_of(group, route), {})
        at[route.method.lower()] = _operation(group, route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "MCP Sentinel",
            "version": version,
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": SECURITY},
    }


def path_of(group: Group, route: Route) -> str:
    """A route's path in OpenAPI's writing."""
    path = _VARIABLE.sub(r"{\1}", route.path)
    return f"{MOUNT}{path}" if group.is_mounted else path


def _kinds(routes: Iterable[Route]) -> Iterable[Any]:
    for route in routes:
        yield from (kind for kind in (route.answer.kind, route.body) if kind is not None)


def _operation(group: Group, route: Route, schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint(route),
        "summary": route.summary,
        "tags": [group.name],
        "parameters": [written for each in route.parameters for written in _parameter(each)],
        "responses": _responses(route, schema_of),
        "security": [{name: []} for name in SECURITY] if route.needs.credential else [],
    }
    if route.needs.scope:
        operation["description"] = _scope(route.needs)
    if route.body is not None:
        content = {JSON: {"schema": schema_of[route.body]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _scope(needs: Needs) -> str:
    where = "in every namespace" if needs.everywhere else "limited to the caller's namespaces"
    return f"Needs the scope `{needs.scope}`, {where}."


def _parameter(parameter: Parameter[Any]) -> Iterable[dict[str, Any]]:
    for name in parameter.names:
        written: dict[str, Any] = {
            "name": name,
            "in": parameter.place.value,
            "description": parameter.help,
            "schema": parameter.schema,
        }
        if parameter.place is Place.PATH:
            written["required"] = True
        elif name != parameter.name:
            written |= {"deprecated": True, "description": f"The same as `{parameter.name}`."}
        yield written


def _responses(route: Route, schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    answer, found = route.answer, {}
    content: dict[str, Any] = {}
    if answer.kind is not None:
        content[JSON] = {"schema": schema_of[answer.kind]}
    content |= {media: {"schema": schema} for media, schema in answer.others.items()}
    for status in problems(route):
        found[str(status.value)] = {
            "description": status.phrase,
            "content": {CONTENT_TYPE: {"schema": schema_of[ProblemDocument]}},
        }
    for status in (answer.status, *answer.also):
        if content:
            found[str(status.value)] = {"description": status.phrase, "content": content}
    return dict(sorted(found.items()))


def problems(route: Route) -> set[HTTPStatus]:
    """Statuses of the problems that a route may answer with."""
    found = {HTTPStatus.BAD_REQUEST, *route.problems}
    if route.answer.status >= HTTPStatus.BAD_REQUEST:
        found.add(route.answer.status)
    if route.needs.credential:  # 429: too many attempts without a valid one
        found |= {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}
    if route.needs.scope:  # it reads what may be away
        found |= {HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE}
    if route.body is not None:
        found |= {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE}
    return found

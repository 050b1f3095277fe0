"""Ingest: `POST /events`, answered 202 only once the log has them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web

from backend.auth.principal import Scope, Verifier, credentials_of
from backend.ingest.envelopes import BadJson, TooLarge, messages_of
from backend.metrics import IngestMetrics
from backend.operations import Ready, health_routes, metrics_route
from backend.ports import EventLog, Headers, Message
from backend.problems import CONTENT_TYPE, Problem, problem_of, problem_of_status
from extauthz.core.errors import Invalid, SentinelError

NDJSON: Final = frozenset({"application/x-ndjson", "application/ndjson"})
PARSE_INLINE_BYTES: Final = 64 << 10  # more is parsed in a thread
TRACE_HEADERS: Final = ("traceparent", "tracestate", "baggage")
MISSING_FIELDS: Final = ("source", "event_type", "payload")

_log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_app(
    *,
    log: EventLog,
    verifier: Verifier,
    ready: Ready,
    metrics: IngestMetrics,
    clock: Callable[[], float],
    new_id: Callable[[], str],
    max_request_bytes: int,
) -> web.Application:
    """The application; it holds nothing but what it is given."""

    async def post_events(request: web.Request) -> web.Response:
        principal = verifier.verify(credentials_of(request.headers))
        principal.require(Scope.INGEST)
        lines = _is_ndjson(request)
        body = await _body(request)

        def read() -> list[Message]:
            return messages_of(
                body,
                lines=lines,
                producer=principal.name,
                now=clock(),
                new_id=new_id,
                headers=_trace(request),
            )

        small = len(body) <= PARSE_INLINE_BYTES
        messages = read() if small else await asyncio.to_thread(read)
        with metrics.append_seconds.time():
            await log.append(messages)
        metrics.events.inc(len(messages))
        return web.json_response({"ok": True}, status=HTTPStatus.ACCEPTED)

    @web.middleware
    async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await _answered(request, handler)
        if request.path == "/events":
            metrics.requests.labels(str(response.status)).inc()
        return response

    app = web.Application(middlewares=[answer_errors], client_max_size=max_request_bytes)
    app.router.add_post("/events", post_events)
    app.add_routes([*health_routes(ready), metrics_route(metrics.registry)])
    return app


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:  # aiohttp's own: 404, 405, 413
        return _response(
            problem_of_status(error.status),
            {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {},
        )
    except SentinelError as error:
        return _response(_problem(error))
    except Exception as error:  # the only broad catch: a bug answers 500 and is logged
        _log.exception("request failed", extra={"path": request.path})
        return _response(problem_of(error))


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.RequestPayloadError as error:  # cut short, or not in its Content-Encoding
        raise BadJson("", "the body is not what its headers say", "send it whole") from error


def _problem(error: SentinelError) -> Problem:
    """As `problem_of`, with the codes that producers know ingest by."""
    problem = problem_of(error)
    match error:
        case TooLarge():
            status, code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large"
        case BadJson():
            status, code = problem.status, "invalid_json"
        case Unsupported():
            status, code = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"
        case Invalid() if error.field.rpartition(".")[2] in MISSING_FIELDS:
            status, code = problem.status, "missing_fields"
        case _:
            return problem
    return Problem(status, code, problem.detail, problem.field)


def _response(problem: Problem, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=problem.document,
        status=problem.status,
        content_type=CONTENT_TYPE,
        headers=problem.headers | (headers or {}),
    )


class Unsupported(Invalid):
    """A content type that ingest does not read."""


def _is_ndjson(request: web.Request) -> bool:
    if "Content-Type" not in request.headers:
        return False
    kind = request.content_type
    if kind in NDJSON:
        return True
    if kind == "application/json" or kind.endswith("+json"):
        return False
    raise Unsupported(
        "Content-Type",
        f"`{kind[:64]}` is not read here",
        "send application/json or application/x-ndjson",
    )


def _trace(request: web.Request) -> Headers:
    return tuple(
        (name, request.headers[name].encode("utf-8", "replace"))
        for name in TRACE_HEADERS
        if name in request.headers
    )

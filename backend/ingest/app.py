"""Ingest: `POST /events`, answered 202 only once the log has them."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from aiohttp import web

from backend.auth.principal import Principal, Scope, Verifier, credentials_of
from backend.ingest.bodies import (
    ENCODINGS,
    Hold,
    Room,
    encoding_of,
    inflate,
    is_lines,
    read_body,
)
from backend.ingest.envelopes import MAX_AHEAD_SECONDS, Reception, messages_of
from backend.ingest.refusals import NotEnqueued, Refused, bad_json
from backend.metrics import IngestMetrics
from backend.operations import Ready, expected, health_routes, metrics_route
from backend.ports.event_log import EventLog, Headers, Message
from backend.problems import CONTENT_TYPE, Problem, problem_of, problem_of_status
from extauthz.core.errors import Retryable, SentinelError

PARSE_INLINE_BYTES: Final = 256 << 10  # more is parsed in a thread
TRACE_HEADERS: Final = ("traceparent", "tracestate", "baggage")
MAX_TRACE_BYTES: Final = 1024  # of one of them; it is written with each event of a request

_log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What requests may cost.

    Args:
        request_bytes: one request, inflated.
        held_bytes: all requests that are being answered.
        wait_seconds: for the event log.
        age_seconds: of an event. Each day of a batch is a part of its own in the store, which
            costs it some 40 ms: batches of a few hundred days would stall it.
    """

    request_bytes: int
    held_bytes: int
    wait_seconds: float
    age_seconds: float = math.inf


def create_app(
    *,
    log: EventLog,
    verifier: Verifier,
    ready: Ready,
    metrics: IngestMetrics,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
    new_id: Callable[[], str],
    limits: Limits,
) -> web.Application:
    """The application; its server must leave bodies as they come (`auto_decompress=False`).

    Args:
        clock: seconds since the epoch.
        monotonic: seconds, never set back.
        new_id: makes a UUIDv7.
    """
    intake = _Intake(log, metrics, limits, clock=clock, monotonic=monotonic, new_id=new_id)

    async def post_events(request: web.Request) -> web.Response:
        principal = verifier.verify(credentials_of(request.headers), request.remote or "")
        principal.require(Scope.INGEST)
        await intake.take(request, principal)
        return web.json_response({"ok": True}, status=HTTPStatus.ACCEPTED)

    @web.middleware
    async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await _answered(request, handler)
        if request.path == "/events":
            metrics.requests.labels(str(response.status)).inc()
        return response

    app = web.Application(middlewares=[answer_errors])
    app.router.add_post("/events", post_events, expect_handler=expected)
    app.add_routes([*health_routes(ready), metrics_route(metrics.registry)])
    return app


class _Intake:
    """Takes requests' events into the log."""

    def __init__(
        self,
        log: EventLog,
        metrics: IngestMetrics,
        limits: Limits,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._log, self._metrics, self._limits = log, metrics, limits
        self._clock, self._monotonic, self._new_id = clock, monotonic, new_id
        self._began, self._since = clock(), monotonic()
        self._room = Room(limits.held_bytes)
        self._parsing = asyncio.Semaphore(1)  # in a thread; two would only share the time of one
        self._appends: set[asyncio.Task[None]] = set()  # the loop itself would let go of them
        metrics.held.set_function(lambda: self._room.held_bytes)

    async def take(self, request: web.Request, sender: Principal) -> None:
        """Return once the log has all events of the request.

        Raises:
            Refused, NotYours: naming what is wrong with it.
            Busy, NotEnqueued: they must be sent again.
        """
        lines, encoding = is_lines(request), encoding_of(request)
        with ExitStack() as until_appended:
            hold = Hold(self._room)
            until_appended.callback(hold.release)
            body = await self._body(request, hold)
            reception = self._reception(request, sender)

            def read(plain: bytes) -> list[Message]:
                hold.grow(len(plain))  # messages hold the events once more
                messages = messages_of(plain, lines=lines, reception=reception)
                hold.grow(len(messages) * sum(len(value) for _, value in reception.headers))
                return messages

            def read_encoded() -> list[Message]:
                most = self._limits.request_bytes
                hold.grow(most)
                plain = inflate(body, encoding, most)
                hold.shrink(most - len(plain))
                return read(plain)

            if encoding or len(body) > PARSE_INLINE_BYTES:
                async with self._parsing:
                    work = read_encoded if encoding else lambda: read(body)
                    messages = await asyncio.to_thread(work)
            else:
                messages = read(body)
            until_appended.pop_all()
            await self._append(messages, hold)

    async def _body(self, request: web.Request, hold: Hold) -> bytes:
        try:
            return await read_body(request, hold, self._limits.request_bytes)
        except (web.RequestPayloadError, ConnectionError) as error:  # or the sender hung up
            raise bad_json("", "the body is not what its headers say", "send it whole") from error

    def _reception(self, request: web.Request, sender: Principal) -> Reception:
        now = self._clock()
        # A clock that was set back must not make every event one of the future.
        at_least = self._began + self._monotonic() - self._since
        latest = max(now, at_least) + MAX_AHEAD_SECONDS
        earliest = max(0.0, now - self._limits.age_seconds)
        return Reception(sender, now, earliest, latest, self._new_id, _trace(request))

    async def _append(self, messages: Sequence[Message], hold: Hold) -> None:
        """Wait for a bounded time; what the log is still busy with keeps its room."""
        append = asyncio.create_task(self._log.append(messages))
        self._appends.add(append)
        append.add_done_callback(self._appends.discard)
        append.add_done_callback(lambda _: hold.release())
        with self._metrics.append_seconds.time():
            await asyncio.wait({append}, timeout=self._limits.wait_seconds)
        if not append.done():
            append.add_done_callback(_tell_late)
            raise NotEnqueued("the event log is slow to take the events; send them again later")
        try:
            append.result()
        except Retryable as error:
            raise NotEnqueued(str(error)) from error
        self._metrics.events.inc(len(messages))


def _tell_late(append: asyncio.Task[None]) -> None:
    if not append.cancelled() and (error := append.exception()):
        _log.warning("events were not taken, as their sender was told", extra={"error": str(error)})


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:  # aiohttp's own: 404, 405, 408
        return _response(
            problem_of_status(error.status),
            {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {},
        )
    except Refused as error:
        problem = Problem(error.status, error.code, str(error), error.field)
        return _response(problem, _accepted(error))
    except NotEnqueued as error:
        return _response(Problem(HTTPStatus.SERVICE_UNAVAILABLE, "enqueue_failed", str(error)))
    except SentinelError as error:
        return _response(problem_of(error))
    except Exception as error:  # a bug answers 500 and is logged
        _log.exception("request failed", extra={"path": request.path})
        return _response(problem_of(error))


def _accepted(error: Refused) -> dict[str, str]:
    """What would be read instead (RFC 9110, section 15.5.16)."""
    is_encoding = error.status is HTTPStatus.UNSUPPORTED_MEDIA_TYPE and (
        error.field == "Content-Encoding"
    )
    return {"Accept-Encoding": ", ".join(ENCODINGS)} if is_encoding else {}


def _response(problem: Problem, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=problem.document,
        status=problem.status,
        content_type=CONTENT_TYPE,
        headers=problem.headers | (headers or {}),
    )


def _trace(request: web.Request) -> Headers:
    """Trace context, as headers of records; what is longer than any tracer needs is left out."""
    joined = (
        (name, ", ".join(request.headers.getall(name)).encode("utf-8", "surrogateescape"))
        for name in TRACE_HEADERS
        if name in request.headers
    )
    return tuple((name, value) for name, value in joined if len(value) <= MAX_TRACE_BYTES)

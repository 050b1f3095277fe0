"""`/health`, `/ready`, `/live`, `/metrics` at the root: what operators and orchestrators ask."""

from collections.abc import Callable
from http import HTTPStatus

import msgspec
from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from backend.api.answers import json_response
from backend.api.routes import NOTHING, Answer, Call, Group, Route
from backend.ports.access_store import AccessStore
from backend.ports.event_store import EventStore
from extauthz.core.errors import SentinelError

AWAY = HTTPStatus.SERVICE_UNAVAILABLE


class Health(msgspec.Struct, frozen=True):
    """Whether the custom resources can be read."""

    ok: bool
    runtime_initialized: bool


class Ready(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether queries can be answered; what is away, and why."""

    ok: bool
    store: str = ""
    access: str = ""


class Live(msgspec.Struct, frozen=True):
    """The process answers."""

    ok: bool


def operations_group(store: EventStore, access: AccessStore, registry: CollectorRegistry) -> Group:
    """Open to everybody, for probes carry no credential."""

    def health(_call: Call[None]) -> Response:
        initialized = not _fault(access.ping)
        answer = Health(ok=initialized, runtime_initialized=initialized)
        return json_response(answer, HTTPStatus.OK if initialized else AWAY)

    def ready(_call: Call[None]) -> Response:
        faults = {"store": _fault(store.ping), "access": _fault(access.ping)}
        is_ready = not any(faults.values())
        return json_response(Ready(is_ready, **faults), HTTPStatus.OK if is_ready else AWAY)

    def live(_call: Call[None]) -> Response:
        return json_response(Live(True))

    def metrics(_call: Call[None]) -> Response:
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    text = {"text/plain": {"type": "string"}}
    return Group(
        "operations",
        [
            _route("/health", health, "503 while the custom resources cannot be read.", Health),
            _route("/ready", ready, "503 while queries cannot be answered.", Ready),
            _route("/live", live, "The process answers.", Live),
            Route(
                method="GET",
                path="/metrics",
                serve=metrics,
                summary="Prometheus metrics.",
                answer=Answer(None, text),
                needs=NOTHING,
            ),
        ],
        is_mounted=False,
    )


def _route(
    path: str, serve: Callable[[Call[None]], Response], summary: str, kind: type[msgspec.Struct]
) -> Route:
    return Route(
        method="GET",
        path=path,
        serve=serve,
        summary=summary,
        answer=Answer(kind, also=(AWAY,)),
        needs=NOTHING,
    )


def _fault(ping: Callable[[], None]) -> str:
    try:
        ping()
    except SentinelError as error:
        return str(error)
    return ""

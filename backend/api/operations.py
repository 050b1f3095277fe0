"""`/health`, `/ready`, `/live`, `/metrics` at the root: what operators and orchestrators ask."""

from collections.abc import Callable
from http import HTTPStatus

import msgspec
from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from backend.api.answers import json_response
from backend.api.routes import NOTHING, Answer, Call, Group, get
from backend.ports.access_store import AccessStore
from backend.ports.event_store import EventStore
from extauthz.core.errors import SentinelError

AWAY = HTTPStatus.SERVICE_UNAVAILABLE


class Health(msgspec.Struct, frozen=True):
    """It has come up; `runtime_initialized`: the custom resources could be read."""

    ok: bool
    runtime_initialized: bool


class Ready(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether queries can be answered; what is away, and why."""

    ok: bool
    process: str = ""
    store: str = ""
    access: str = ""


class Live(msgspec.Struct, frozen=True):
    """The process answers."""

    ok: bool


def operations_group(
    store: EventStore,
    access: AccessStore,
    registry: CollectorRegistry,
    fault: Callable[[], str],
) -> Group:
    """Open to everybody, for probes carry no credential.

    Args:
        fault: why nobody should ask now; empty where all may.
    """
    initialized = False  # once it was, `/ready` alone tells what is away

    def health(_call: Call[None]) -> Response:
        nonlocal initialized
        initialized = initialized or not _fault(access.ping)
        answer = Health(ok=initialized, runtime_initialized=initialized)
        return json_response(answer, HTTPStatus.OK if initialized else AWAY)

    def ready(_call: Call[None]) -> Response:
        faults = {
            "process": fault(),
            "store": _fault(store.ping),
            "access": _fault(access.ping),
        }
        is_ready = not any(faults.values())
        return json_response(Ready(is_ready, **faults), HTTPStatus.OK if is_ready else AWAY)

    def live(_call: Call[None]) -> Response:
        return json_response(Live(True))

    def metrics(_call: Call[None]) -> Response:
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    text = Answer(None, {"text/plain": {"type": "string"}})
    return Group(
        "operations",
        [
            get(path, serve, summary, answer, needs=NOTHING)
            for path, serve, summary, answer in (
                (
                    "/health",
                    health,
                    "503 until the custom resources were read once.",
                    _told(Health),
                ),
                ("/ready", ready, "503 while queries cannot be answered.", _told(Ready)),
                ("/live", live, "The process answers.", _told(Live)),
                ("/metrics", metrics, "Prometheus metrics.", text),
            )
        ],
        is_mounted=False,
    )


def _told(kind: type[msgspec.Struct]) -> Answer:
    return Answer(kind, also=(AWAY,))


def _fault(ping: Callable[[], None]) -> str:
    try:
        ping()
    except SentinelError as error:
        return str(error)
    return ""

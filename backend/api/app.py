"""The query api: a Flask application, made from what it is given."""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final

from flask import Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException

from backend.api.answers import json_response
from backend.api.audit import audit_blueprint
from backend.api.dlq import dlq_blueprint
from backend.api.events import events_blueprint
from backend.api.letters import DeadLetters
from backend.auth.principal import Verifier, credentials_of
from backend.metrics import ApiMetrics
from backend.ports import EventStore
from backend.problems import CONTENT_TYPE, Problem, problem_of, problem_of_status
from extauthz.core.errors import SentinelError

MOUNTS: Final = ("/api", "/api/v1")  # both generations of existing tools
MAX_BODY_BYTES: Final = 64 << 10

_log = logging.getLogger(__name__)


def create_app(
    *,
    store: EventStore,
    letters: DeadLetters | None,
    verifier: Verifier,
    runtime_ping: Callable[[], None],
    metrics: ApiMetrics,
    clock: Callable[[], datetime],
    retention: timedelta | None,
) -> Flask:
    """The application.

    Args:
        letters: None where this process was told of no event log.
        runtime_ping: raises Retryable while the access store cannot be read.
        clock: the time, aware.
        retention: how long the store keeps events; None for ever.
    """
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.url_map.strict_slashes = False
    for mount in MOUNTS:
        for blueprint in (
            events_blueprint(store),
            audit_blueprint(store, clock, retention),
            dlq_blueprint(letters),
        ):
            name = f"{blueprint.name}{mount.replace('/', '_')}"
            app.register_blueprint(blueprint, url_prefix=mount, name=name)
    _add_operations(app, store, runtime_ping, metrics)
    _add_authentication(app, verifier)
    _add_errors(app)
    _add_measuring(app, metrics)
    return app


def _add_operations(
    app: Flask, store: EventStore, runtime_ping: Callable[[], None], metrics: ApiMetrics
) -> None:
    @app.get("/health")
    def health() -> Response:
        initialized = not _fault(runtime_ping)
        status = HTTPStatus.OK if initialized else HTTPStatus.SERVICE_UNAVAILABLE
        return json_response({"ok": initialized, "runtime_initialized": initialized}, status)

    @app.get("/ready")
    def ready() -> Response:
        faults = {"store": _fault(store.ping), "access": _fault(runtime_ping)}
        faults = {name: fault for name, fault in faults.items() if fault}
        status = HTTPStatus.SERVICE_UNAVAILABLE if faults else HTTPStatus.OK
        return json_response({"ok": not faults, **faults}, status)

    @app.get("/live")
    def live() -> Response:
        return json_response({"ok": True})

    @app.get("/metrics")
    def prometheus() -> Response:
        return Response(
            generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )


def _fault(ping: Callable[[], None]) -> str:
    try:
        ping()
    except SentinelError as error:
        return str(error)
    return ""


def _add_authentication(app: Flask, verifier: Verifier) -> None:
    @app.before_request
    def authenticate() -> None:
        # Every route below /api, a wrong one too: what exists is not told to strangers.
        if request.path.startswith("/api/") or request.path == "/api":
            credentials = credentials_of(request.headers)
            g.principal = verifier.verify(credentials, request.remote_addr or "")


def _add_errors(app: Flask) -> None:
    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        kept = {"Allow": str(error.get_response().headers["Allow"])} if error.code == 405 else {}
        return _problem_response(problem_of_status(error.code or 500), kept)

    @app.errorhandler(SentinelError)
    def known(error: SentinelError) -> Response:
        return _problem_response(problem_of(error))

    @app.errorhandler(Exception)
    def bug(error: Exception) -> Response:
        _log.error("request failed", exc_info=error, extra={"path": request.path})
        return _problem_response(problem_of(error))


def _problem_response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    response = Response(problem.document, problem.status, content_type=CONTENT_TYPE)
    response.headers.update(problem.headers | (headers or {}))
    return response


def _add_measuring(app: Flask, metrics: ApiMetrics) -> None:
    @app.before_request
    def begin() -> None:
        g.began = time.perf_counter()

    @app.after_request
    def end(response: Response) -> Response:
        # The rule, not the path: callers must not be able to make new series.
        route = request.url_rule.rule if request.url_rule else ""
        method = request.method if request.url_rule else ""
        metrics.requests.labels(method, route, str(response.status_code)).inc()
        if "began" in g:
            metrics.seconds.labels(route).observe(time.perf_counter() - g.began)
        return response

"""The api: a Flask application, made from what it is given."""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from importlib.metadata import version
from typing import Final

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as RoutingNotFound

from backend.api.account import account_group
from backend.api.audit import audit_group
from backend.api.bodies import MAX_BODY_BYTES
from backend.api.components import components_group
from backend.api.dlq import dlq_group
from backend.api.docs import docs_group
from backend.api.entitlements import entitlements_group
from backend.api.events import events_group
from backend.api.explain import explain_group
from backend.api.explanations import Explanations
from backend.api.governance import governance_group
from backend.api.governance_changes import Governance
from backend.api.governance_preview import Previews
from backend.api.openapi import document
from backend.api.operations import operations_group
from backend.api.policy import policy_group
from backend.api.refusals import Refused
from backend.api.restart import restart_group
from backend.api.routes import Group, endpoint
from backend.api.runtime import Runtime
from backend.api.servers import servers_group
from backend.api.statistics import statistics_group
from backend.api.usage import usage_group
from backend.auth.principal import Verifier, credentials_of
from backend.metrics import ApiMetrics
from backend.ports.access_store import AccessStore
from backend.ports.change_log import ChangeLog
from backend.ports.event_store import EventStore
from backend.problems import CONTENT_TYPE, Problem, problem_of, problem_of_status
from extauthz.core.errors import SentinelError
from extauthz.core.fields import nearest

MOUNTS: Final = ("/api", "/api/v1")  # both generations of existing tools
MOST_QUOTED: Final = 200  # characters of a path
PACKAGE: Final = "mcpruntime-sentinel"

_log = logging.getLogger(__name__)


def create_app(
    *,
    store: EventStore,
    access: AccessStore,
    changes: ChangeLog,
    runtime: Runtime,
    verifier: Verifier,
    metrics: ApiMetrics,
    clock: Callable[[], datetime],
    retention: timedelta | None,
) -> Flask:
    """The application.

    Args:
        changes: where changes of custom resources are recorded.
        clock: the time, aware.
        retention: how long the store keeps events; None for ever.
    """
    groups = [
        events_group(store),
        statistics_group(store, access),
        usage_group(store),
        audit_group(store, retention),
        explain_group(store, Explanations(store, access)),
        entitlements_group(store, access, runtime.cluster),
        governance_group(Governance(access, changes, Previews(store, access))),
        dlq_group(runtime.letters),
        servers_group(access, runtime.cluster),
        policy_group(access, runtime.cluster),
        components_group(runtime.cluster),
        restart_group(runtime.cluster, runtime.record_restarts, runtime.cooldown),
        account_group(),
        operations_group(store, access, metrics.registry, runtime.fault),
    ]
    groups.append(docs_group(lambda: document(groups, version(PACKAGE))))
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.url_map.strict_slashes = False
    for group in groups:
        for mount in _mounts(group):
            app.register_blueprint(
                group.blueprint(clock), url_prefix=mount or None, name=_name(group, mount)
            )
    _add_authentication(app, verifier, groups)
    _add_errors(app)
    _add_measuring(app, metrics)
    _add_caution(app)
    return app


def _add_authentication(app: Flask, verifier: Verifier, groups: Sequence[Group]) -> None:
    strangers = frozenset(
        f"{_name(group, mount)}.{endpoint(route)}"
        for group in groups
        for mount in _mounts(group)
        for route in group.routes
        if not route.needs.credential
    )

    @app.before_request
    def authenticate() -> None:
        # Every path below /api, a wrong one too: what exists is not told to strangers.
        is_ours = request.path.startswith("/api/") or request.path == "/api"
        if is_ours and request.endpoint not in strangers:
            credentials = credentials_of(request.headers)
            g.principal = verifier.verify(credentials, request.remote_addr or "")


def _mounts(group: Group) -> Sequence[str]:
    return MOUNTS if group.is_mounted else ("",)


def _name(group: Group, mount: str) -> str:
    return f"{group.name}{mount.replace('/', '_')}"


def _add_errors(app: Flask) -> None:
    paths = frozenset(rule.rule for rule in app.url_map.iter_rules() if not rule.arguments)

    @app.errorhandler(HTTPException)
    def unserved(error: HTTPException) -> Response:
        if isinstance(error, MethodNotAllowed):
            allowed = ", ".join(sorted(error.valid_methods or ()))
            mend = f"use {allowed}"
            said = f"`{request.method[:64]}` is not allowed here; {mend}"
            status = HTTPStatus.METHOD_NOT_ALLOWED
            problem = Problem(status, "method_not_allowed", said, mend=mend)
            return _problem_response(problem, {"Allow": allowed})
        if isinstance(error, RoutingNotFound):
            near = nearest(request.path, paths)
            mend = f"did you mean `{near}`?" if near else "/api/docs lists what there is"
            said = f"nothing is at `{request.path[:MOST_QUOTED]}`; {mend}"
            return _problem_response(Problem(HTTPStatus.NOT_FOUND, "not_found", said, mend=mend))
        return _problem_response(problem_of_status(error.code or 500))

    @app.errorhandler(Refused)
    def refused(error: Refused) -> Response:
        problem = Problem(error.status, error.code, str(error), error.field, error.mend)
        after = {"Retry-After": str(error.retry_after)} if error.retry_after else None
        return _problem_response(problem, after)

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


def _add_caution(app: Flask) -> None:
    """Answers name people and what they may do: nobody keeps them, or takes them for a page."""

    @app.after_request
    def guarded(response: Response) -> Response:
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response

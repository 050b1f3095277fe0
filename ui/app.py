"""The application: what is mounted where, and what every answer carries."""

import secrets
from http import HTTPStatus
from pathlib import Path
from typing import Final

from flask import Flask, Response, json, jsonify, redirect, render_template, request, url_for
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from ui import shown
from ui.login import new_login
from ui.login_oidc import new_login_oidc
from ui.oidc import Provider
from ui.pages.events import new_events
from ui.pages.governance import new_governance
from ui.pages.operations import new_operations
from ui.pages.overview import new_overview
from ui.pages.viewer import Refused, SignedOut
from ui.proxy import new_proxy
from ui.sessions import Sealer, Sessions
from ui.settings import Settings
from ui.signing_in import Links, SignIn
from ui.upstream import Api, Unreachable

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
HSTS: Final = "max-age=31536000"
STATIC_SECONDS: Final = 3600


def create_app(settings: Settings, api: Api) -> Flask:
    """The dashboard in front of `api`."""
    app = Flask(__name__)
    keys = settings.session_keys or (secrets.token_urlsafe(),)
    sealer = Sealer(keys)
    app.session_interface = Sessions(
        sealer, settings.session_hours * 3600, is_secure=settings.is_secure
    )
    app.config.update(
        SECRET_KEY=keys[0],  # signs CSRF tokens
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session
        SEND_FILE_MAX_AGE_DEFAULT=STATIC_SECONDS,
    )
    csrf = CSRFProtect(app)
    provider = _provider(settings)
    sign_in = SignIn(api, sealer, has_provider=provider is not None)
    links = None
    if settings.login_token_file:
        links = Links(Path(settings.login_token_file), settings.link_key)
    app.register_blueprint(new_login(api, csrf, sign_in, links))
    if provider:
        oidc = new_login_oidc(sign_in, sealer, provider, is_secure=settings.is_secure)
        app.register_blueprint(oidc)
    app.register_blueprint(new_proxy(api, csrf))
    app.register_blueprint(new_overview(api))
    app.register_blueprint(new_events(api))
    app.register_blueprint(
        new_governance(api, settings.default_namespace, settings.default_policy_version)
    )
    app.register_blueprint(new_operations(api))
    for each in (shown.time, shown.number, shown.milliseconds, shown.duration):
        app.add_template_filter(each)
    _serve_health(app, api)
    _serve_config(app, settings)
    _handle_errors(app)

    @app.after_request
    def protect(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if settings.is_secure:
            response.headers["Strict-Transport-Security"] = HSTS
        if response.mimetype == "text/html":
            response.headers["Cache-Control"] = "no-store"
        return response

    return app


def _provider(settings: Settings) -> Provider | None:
    if not settings.oidc_issuer:
        return None
    return Provider(
        settings.oidc_issuer,
        settings.oidc_client_id,
        settings.oidc_client_secret,
        settings.oidc_scopes,
        f"{settings.public_url}/auth/callback",
    )


def _serve_health(app: Flask, api: Api) -> None:
    @app.get("/health")
    @app.get("/live")
    def live() -> Response:
        return jsonify(ok=True)

    @app.get("/ready")
    def ready() -> tuple[Response, HTTPStatus]:
        try:
            with api.forward("GET", "/health", {}) as answer:
                fault = "" if answer.ok else "the api is not ready"
        except Unreachable as error:
            fault = str(error)
        if fault:
            return jsonify(ok=False, api=fault), HTTPStatus.SERVICE_UNAVAILABLE
        return jsonify(ok=True), HTTPStatus.OK


def _serve_config(app: Flask, settings: Settings) -> None:
    """`/config.js`, which existing tools look at."""
    told = {
        "apiBase": "/api",
        "defaultNamespace": settings.default_namespace,
        "defaultPolicyVersion": settings.default_policy_version,
    }
    script = f"window.MCP_SENTINEL_CONFIG = {json.dumps(told)};\n"

    @app.get("/config.js")
    def config() -> Response:
        return Response(script, content_type="text/javascript; charset=utf-8")


def _handle_errors(app: Flask) -> None:
    @app.errorhandler(CSRFError)
    def no_csrf(error: CSRFError) -> tuple[str, int]:
        said = "this page is too old to be sent; go back, load it again, and send it then"
        return _page(HTTPStatus.BAD_REQUEST, said)

    @app.errorhandler(SignedOut)
    def signed_out(_: SignedOut) -> BaseResponse:
        where = request.full_path.rstrip("?") if request.method == "GET" else "/"
        return redirect(url_for("login.form", next=where))

    @app.errorhandler(Refused)
    def not_given(error: Refused) -> tuple[str, int]:
        return _page(HTTPStatus(error.answer.status), str(error))

    @app.errorhandler(Unreachable)
    def away(error: Unreachable) -> tuple[str, int]:
        return _page(HTTPStatus.BAD_GATEWAY, f"{error}; try again in a moment")

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[str, int]:
        status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
        said = "there is no such page" if status is HTTPStatus.NOT_FOUND else status.description
        return _page(status, said)


def _page(status: HTTPStatus, said: str) -> tuple[str, int]:
    return render_template("problem.html", status=status, said=said, path=request.path), status

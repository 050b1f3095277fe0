"""`/login` and `/auth/*`: signing in with a key, by a link or as a program, and out."""

from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response, jsonify, redirect, request, session, url_for
from flask_wtf.csrf import CSRFProtect
from werkzeug.wrappers import Response as BaseResponse

from ui.problems import problem
from ui.signing_in import Links, Refused, SignIn, signed_in, target, who
from ui.upstream import Api

_PASSWORDS: Final = "there are no passwords here; sign in with an API key, or at your provider"


def new_login(api: Api, csrf: CSRFProtect, sign_in: SignIn, links: Links | None) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("login", __name__)

    @blueprint.get("/login")
    def form() -> Response | BaseResponse:
        return redirect(target()) if "credential" in session else sign_in.page()

    @blueprint.post("/login")
    def sign_in_by_form() -> Response | BaseResponse:
        try:
            sign_in.begin(request.form.get("api_key", "").strip())
        except Refused as refused:
            return sign_in.page(refused)
        return redirect(target(), HTTPStatus.SEE_OTHER)

    @blueprint.post("/auth/login")
    def sign_in_as_program() -> Response:
        try:
            principal = sign_in.begin(_credential(request.get_json(silent=True)))
        except Refused as refused:
            return problem(refused.status, refused.code, str(refused))
        return jsonify(authenticated=True, principal=principal)

    csrf.exempt(sign_in_as_program)  # no form, and no other site, can send JSON

    @blueprint.get("/auth/link")
    def follow_link() -> Response:
        try:
            if links is None:
                said = "no login links are made here; sign in with an API key"
                raise Refused(HTTPStatus.NOT_FOUND, "not_found", said)
            sign_in.begin(links.use(request.args.get("token", "")))
        except Refused as refused:
            return sign_in.page(refused)
        return signed_in(url_for("overview.page"))

    @blueprint.get("/auth/status")
    def status() -> Response:
        principal = who(api)
        return jsonify(authenticated=principal is not None, principal=principal)

    @blueprint.post("/auth/logout")
    def sign_out() -> Response | BaseResponse:
        session.clear()
        if request.accept_mimetypes.best == "application/json":
            return jsonify(authenticated=False, principal=None)
        return redirect(url_for("login.form"), HTTPStatus.SEE_OTHER)

    return blueprint


def _credential(sent: Any) -> str:
    """Raises: Refused."""
    if not isinstance(sent, dict):
        said = "send JSON with `api_key` or `id_token`"
        raise Refused(HTTPStatus.BAD_REQUEST, "invalid_body", said)
    for name in ("api_key", "id_token"):
        if isinstance(sent.get(name), str):
            return str(sent[name]).strip()
    if "password" in sent:
        raise Refused(HTTPStatus.UNAUTHORIZED, "login_unavailable", _PASSWORDS)
    said = "send `api_key` or `id_token`, a string"
    raise Refused(HTTPStatus.BAD_REQUEST, "invalid_body", said)

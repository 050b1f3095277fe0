"""`/auth/oidc` and `/auth/callback`: signing in at an OpenID Connect provider."""

import hmac
from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from ui.oidc import Attempt, Provider, SignInFailed
from ui.sessions import Sealer
from ui.signing_in import Refused, SignIn, signed_in, target

COOKIE: Final = "mcp_ui_login"
SECONDS: Final = 600.0


def new_login_oidc(
    sign_in: SignIn, sealer: Sealer, provider: Provider, *, is_secure: bool
) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("login_oidc", __name__)

    @blueprint.get("/auth/oidc")
    def leave() -> Response | BaseResponse:
        attempt = Attempt.new()
        try:
            response = redirect(provider.url(attempt))
        except SignInFailed as error:
            return sign_in.page(Refused(HTTPStatus.BAD_GATEWAY, "sign_in_failed", str(error)))
        response.set_cookie(
            COOKIE,
            sealer.seal([attempt.state, attempt.nonce, attempt.verifier, target()]),
            max_age=int(SECONDS),
            path="/auth",
            samesite="Lax",  # the provider's page sends the browser back
            secure=is_secure,
            httponly=True,
        )
        return response

    @blueprint.get("/auth/callback")
    def come_back() -> Response:
        try:
            attempt, where = _begun(sealer.unseal(request.cookies.get(COOKIE, ""), SECONDS))
            if "code" not in request.args:
                raise SignInFailed("the provider refused; sign in again, or ask who runs it")
            sign_in.begin(provider.token(attempt, request.args["code"]))
        except SignInFailed as error:
            return sign_in.page(Refused(HTTPStatus.UNAUTHORIZED, "sign_in_failed", str(error)))
        except Refused as refused:
            return sign_in.page(refused)
        response = signed_in(where)
        response.delete_cookie(COOKIE, path="/auth", samesite="Lax", secure=is_secure)
        return response

    return blueprint


def _begun(kept: Any) -> tuple[Attempt, str]:
    """Raises: SignInFailed."""
    if isinstance(kept, list):
        state, nonce, verifier, where = kept
        if hmac.compare_digest(state.encode(), request.args.get("state", "").encode()):
            return Attempt(state, nonce, verifier), where
    raise SignInFailed("this sign-in was begun elsewhere, or too long ago; sign in again")

"""What it takes to begin a session: a credential that the api takes."""

import hmac
import secrets
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Response, make_response, render_template, request, session, url_for

from ui.sessions import MOST_COOKIE_BYTES, Sealer
from ui.upstream import Api, Unreachable


class Refused(Exception):
    """A sign-in that does not count. Attributes: status, code."""

    def __init__(self, status: HTTPStatus, code: str, said: str) -> None:
        super().__init__(said)
        self.status, self.code = status, code


class SignIn:
    """Begins sessions and tells whose they are.

    A key or a token counts if `/api/auth/me` takes it, and what it may do, the api decides at
    each request.

    Args:
        has_provider: whether people can sign in at a provider of identities.
    """

    def __init__(self, api: Api, sealer: Sealer, *, has_provider: bool) -> None:
        self._api, self._sealer, self._has_provider = api, sealer, has_provider

    def begin(self, credential: str) -> Any:
        """Start a session; gives the principal. Raises: Refused."""
        if not credential:
            raise Refused(HTTPStatus.BAD_REQUEST, "invalid_body", "the key is empty; write one")
        if not credential.isascii() or not credential.isprintable():
            raise Refused(HTTPStatus.UNAUTHORIZED, "unauthorized", "this is no key of the api")
        begun = {"credential": credential, "csrf_token": secrets.token_hex(20)}
        if len(self._sealer.seal(begun)) > MOST_COOKIE_BYTES:
            said = "the token is too large for a cookie; have the provider put fewer claims in it"
            raise Refused(HTTPStatus.UNAUTHORIZED, "token_too_large", said)
        try:
            answer = self._api.call("GET", "/api/auth/me", credential)
        except Unreachable as error:
            said = f"{error}; try again"
            raise Refused(HTTPStatus.BAD_GATEWAY, "api_unreachable", said) from error
        if not answer.ok:
            said = f"the api does not take it: {answer.problem}"
            raise Refused(HTTPStatus.UNAUTHORIZED, "unauthorized", said)
        session.clear()  # nothing from before: nobody may have chosen it for them
        session.update(begun)
        return answer.body["principal"]

    def page(self, refused: Refused | None = None) -> Response:
        """The form, with what went wrong."""
        page = render_template("login.html", refused=refused, has_provider=self._has_provider)
        return make_response(page, refused.status if refused else HTTPStatus.OK)


class Links:
    """One-time login links, as Jupyter prints them.

    Args:
        file: with the token; it is removed with the first use.
        key: of the api, for who comes by it.
    """

    def __init__(self, file: Path, key: str) -> None:
        self._file, self._key = file, key

    def use(self, token: str) -> str:
        """The key, once. Raises: Refused."""
        try:
            expected = self._file.read_text("utf-8").strip()
            if expected and hmac.compare_digest(expected.encode(), token.encode()):
                self._file.unlink()  # who comes second finds none
                return self._key
        except OSError:
            pass
        said = "this link was used, or is an old one; `sentinel ui` prints a new one"
        raise Refused(HTTPStatus.UNAUTHORIZED, "unauthorized", said)


def who(api: Api) -> Any:
    """Who is signed in, as the api says now; None for nobody. Raises: Unreachable."""
    if "credential" not in session:
        return None
    answer = api.call("GET", "/api/auth/me", session["credential"])
    return answer.body["principal"] if answer.ok else None


def target() -> str:
    """Where to go after signing in: a path of ours, never another site."""
    wanted = request.values.get("next", "")
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return url_for("overview.page")
    is_ours = wanted.startswith("/") and not parts.netloc and not parts.scheme
    if is_ours and not wanted.startswith(("//", "/\\")) and wanted.isprintable():
        return wanted
    return url_for("overview.page")


def signed_in(where: str) -> Response:
    """A page that goes on by itself.

    A redirect would still be the other site's navigation, which Strict cookies do not go with.
    """
    return make_response(render_template("signed_in.html", target=where))

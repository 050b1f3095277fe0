"""`/auth` and `/user/api-keys`: what a caller is, and what existing tools ask of accounts.

There are neither passwords nor keys kept here: both are answered, so that these tools go on.
"""

from http import HTTPStatus
from typing import Final

import msgspec
from flask import Response

from backend.api.answers import json_response
from backend.api.parameters import Parameter, Place
from backend.api.refusals import Refused
from backend.api.routes import ANY_CREDENTIAL, NOTHING, Answer, Call, Group, Route, get
from backend.auth.principal import Principal
from extauthz.core.errors import NotFound

MAKE_KEYS: Final = "keys are made with `sentinel keys new` and listed in API_KEYS_FILE"
NO_KEYS: Final = "No keys are kept here: always an empty list."
KEY_ID: Final = Parameter(
    "key_id", lambda given, _now: given, {"type": "string"}, "Id of a key.", "", place=Place.PATH
)


class Account(msgspec.Struct, frozen=True):
    """Who asks.

    `role` is `admin` for who may read, govern and operate everywhere, else `user`;
    `namespaces` is null for all of them, and `namespace` the first of a user's.
    """

    role: str
    subject: str
    email: str
    namespace: str
    scopes: list[str]
    namespaces: list[str] | None


class Me(msgspec.Struct, frozen=True):
    """An authenticated caller."""

    authenticated: bool
    principal: Account


class Key(msgspec.Struct, frozen=True):
    """A key as existing tools list it."""

    id: str
    name: str
    prefix: str
    created_at: str
    revoked: bool
    revoked_at: str | None


class Keys(msgspec.Struct, frozen=True):
    """Always none."""

    keys: list[Key]


def account_group() -> Group:
    """Any credential will do; logging in needs none."""
    return Group("account", [*_SIGNING_IN, *_KEYS])


def account(caller: Principal) -> Account:
    """A principal, as existing tools know it."""
    namespaces = None if caller.namespaces is None else sorted(caller.namespaces)
    return Account(
        role="admin" if caller.is_admin else "user",
        subject=caller.subject or caller.name,
        email=caller.email,
        namespace=namespaces[0] if namespaces else "",
        scopes=sorted(caller.scopes),
        namespaces=namespaces,
    )


def _me(call: Call[None]) -> Response:
    return json_response(Me(True, account(call.caller)))


def _login(_call: Call[None]) -> Response:
    problem = "there are no passwords here"
    mend = "sign in with an API key or a token of your identity provider"
    raise Refused(HTTPStatus.UNAUTHORIZED, "login_unavailable", "", problem, mend)


def _listed(_call: Call[None]) -> Response:
    return json_response(Keys([]))


def _made(_call: Call[None]) -> Response:
    code, problem = "key_management_unavailable", "no key can be made here"
    raise Refused(HTTPStatus.FORBIDDEN, code, "", problem, MAKE_KEYS)


def _changed(call: Call[None]) -> Response:
    raise NotFound(f"key `{call.given[KEY_ID][:64]}` does not exist; {MAKE_KEYS}")


def _of_one_key(method: str, path: str) -> Route:
    return Route(
        method=method,
        path=path,
        serve=_changed,
        summary="No keys are kept here: always 404.",
        answer=Answer(status=HTTPStatus.NOT_FOUND),
        needs=ANY_CREDENTIAL,
        parameters=(KEY_ID,),
        problems=(HTTPStatus.NOT_FOUND,),
    )


_SIGNING_IN: Final = (
    get("/auth/me", _me, "Who asks.", Answer(Me), needs=ANY_CREDENTIAL),
    Route(
        method="POST",
        path="/auth/login",
        serve=_login,
        summary="There are no passwords: always 401 `login_unavailable`.",
        answer=Answer(status=HTTPStatus.UNAUTHORIZED),
        needs=NOTHING,
    ),
)
_KEYS: Final = (
    get("/user/api-keys", _listed, NO_KEYS, Answer(Keys), needs=ANY_CREDENTIAL),
    Route(
        method="POST",
        path="/user/api-keys",
        serve=_made,
        summary="No keys are kept here: always 403.",
        answer=Answer(status=HTTPStatus.FORBIDDEN),
        needs=ANY_CREDENTIAL,
    ),
    _of_one_key("POST", "/user/api-keys/<key_id>/revoke"),
    _of_one_key("DELETE", "/user/api-keys/<key_id>"),
)

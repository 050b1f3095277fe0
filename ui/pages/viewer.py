"""Whoever looks at a page: what they may do, and the api asked in their name."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import session

from ui.signing_in import who
from ui.upstream import Answer, Api


class SignedOut(Exception):
    """Nobody is signed in, or not any more."""


class Refused(Exception):
    """The api refuses what a page is made of. Attributes: answer: what it said."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.problem)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who is signed in.

    Args:
        principal: as `/api/auth/me` tells: role, subject, scopes, namespaces.
    """

    api: Api
    principal: Mapping[str, Any]

    def may(self, scope: str) -> bool:
        return scope in self.principal["scopes"]

    def get(self, path: str, **params: Any) -> Any:
        """What the api tells; parameters that are empty are not sent.

        Raises:
            SignedOut, Unreachable.
            Refused: with its reason.
        """
        answer = self.ask("GET", path, params)
        if not answer.ok:
            raise Refused(answer)
        return answer.body

    def ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The same, a refusal included. Raises: SignedOut, Unreachable."""
        sent = {name: str(value) for name, value in (params or {}).items() if value}
        answer = self.api.call(
            method, path, session["credential"], params=sent, json=json, headers=headers
        )
        if answer.status == HTTPStatus.UNAUTHORIZED:
            session.pop("credential")
            raise SignedOut
        return answer


def viewer(api: Api) -> Viewer:
    """Raises: SignedOut, Unreachable."""
    principal = who(api)
    if principal is None:
        session.pop("credential", None)
        raise SignedOut
    return Viewer(api, principal)

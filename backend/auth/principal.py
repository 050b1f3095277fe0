"""Who asks, and how far the credential reaches."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from extauthz.core.errors import Forbidden


class Scope(StrEnum):
    """What a credential may do."""

    INGEST = "ingest"  # send events
    READ = "read"  # query events, grants, sessions
    GOVERN = "govern"  # change grants and sessions
    OPERATE = "operate"  # restart components


class Component(StrEnum):
    """Components whose credentials alone may send `governance.*` events."""

    API = "api"
    CONTROLLER = "controller"


@dataclass(frozen=True, slots=True)
class Origins:
    """The MCP servers whose events a credential may send.

    Args:
        namespaces: with all their servers, where `servers` is empty.
        servers: namespace and name of each.
        others: servers of these namespaces that are another credential's alone.
    """

    namespaces: frozenset[str]
    servers: frozenset[tuple[str, str]] = frozenset()
    others: frozenset[tuple[str, str]] = frozenset()

    def hold(self, namespace: str, server: str) -> bool:
        """Whether events of that server may be sent."""
        if self.servers:
            return (namespace, server) in self.servers
        return namespace in self.namespaces and (namespace, server) not in self.others


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    Args:
        name: stable, never a credential; stamped on events as `producer`.
        namespaces: where the scopes other than `ingest` reach; None means everywhere.
        origins: whose events it may send; None means anybody's.
        component: of which component it is the own credential.
        subject, email: a token's `sub`, and its e-mail address where that is verified; empty
            for keys, which stand for nobody.
    """

    name: str
    scopes: frozenset[Scope]
    namespaces: frozenset[str] | None = None
    origins: Origins | None = None
    component: Component | None = None
    subject: str = ""
    email: str = ""

    @property
    def is_admin(self) -> bool:
        """Whether it may do everything, everywhere, but for sending events."""
        return self.namespaces is None and self.scopes >= frozenset(Scope) - {Scope.INGEST}

    def require(self, scope: Scope) -> None:
        """Raises Forbidden unless this principal has `scope`."""
        if scope not in self.scopes:
            raise Forbidden(f"this credential lacks the scope `{scope}`; use one that has it")

    def require_everywhere(self, scope: Scope) -> None:
        """Raises Forbidden unless `scope` reaches all namespaces."""
        self.require(scope)
        if self.namespaces is not None:
            raise Forbidden(f"this needs the scope `{scope}` in every namespace; use an admin key")


class Verifier(Protocol):
    """Turns the credentials of a request into a principal. Called from any thread."""

    def verify(self, credentials: Sequence[str], source: str = "") -> Principal:
        """The principal of the first valid one.

        Args:
            source: address that the request came from; empty where unknown.

        Raises:
            Unauthenticated: none of them is valid.
            Retryable: what decides it is away.
        """


class HeaderLookup(Protocol):
    """The headers of any web framework."""

    def get(self, name: str, default: str, /) -> str: ...


def credentials_of(headers: HeaderLookup) -> list[str]:
    """What a request offers: `x-api-key`, then `Authorization: Bearer`.

    Args:
        headers: looked up without regard to case.
    """
    found = [headers.get("x-api-key", "").strip()]
    scheme, _, token = headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        found.append(token.strip())
    return [credential for credential in found if credential]

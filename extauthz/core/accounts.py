"""Which MCPServers a service account speaks for: whose events it sends, whose policy it is sent.

Those of its own namespace alone. A server may name the accounts of its sidecars in an annotation:
then it is theirs alone, and these accounts speak for no server that does not name them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from extauthz.core.decision import ObjectRef

ANNOTATION: Final = "sentinel.mcpruntime.org/service-accounts"  # names, comma-separated


@dataclass(frozen=True, slots=True, order=True)
class ServiceAccount:
    """An account of pods, by namespace and name."""

    namespace: str
    name: str

    @property
    def user(self) -> str:
        """What the API server calls it."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"


@dataclass(frozen=True, slots=True)
class Claim:
    """Whose a server is. Args: accounts: that it names; None where it names none."""

    server: ObjectRef
    accounts: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Bound:
    """The servers of one namespace that an account speaks for.

    Args:
        own: servers that name it; where there are none, all but `others`, those that are not
            known yet included.
        others: servers that name accounts, and not this one.
    """

    namespace: str
    own: frozenset[str]
    others: frozenset[str]

    def holds(self, server: ObjectRef) -> bool:
        """Whether it speaks for that server."""
        if server.namespace != self.namespace:
            return False
        return server.name in self.own if self.own else server.name not in self.others


def claim(server: ObjectRef, annotations: Mapping[str, str]) -> Claim:
    """What a server's annotations say. One that is there and names nobody lets nobody in."""
    told = annotations.get(ANNOTATION)
    if told is None:
        return Claim(server, None)
    return Claim(server, frozenset(filter(None, map(str.strip, told.split(",")))))


class Speakers:
    """Who speaks for which servers.

    Args:
        claims: of all servers, those that cannot be read in other ways included.
    """

    def __init__(self, claims: Iterable[Claim]) -> None:
        self._claims: dict[str, dict[str, frozenset[str]]] = {}
        for each in claims:
            if each.accounts is not None:
                place = self._claims.setdefault(each.server.namespace, {})
                place[each.server.name] = each.accounts

    def of(self, account: ServiceAccount) -> Bound:
        """What that account speaks for."""
        named = self._claims.get(account.namespace, {})
        own = frozenset(name for name, accounts in named.items() if account.name in accounts)
        return Bound(account.namespace, own, frozenset(named.keys() - own))

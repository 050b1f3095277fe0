"""Which MCPServers a service account speaks for: whose events it sends, whose policy it is sent.

Those of its own namespace alone; a server may name accounts in an annotation, and is theirs then.
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
    """Whose a server is. Args: accounts: that it names; empty where it names none."""

    server: ObjectRef
    accounts: frozenset[str]

    def admits(self, account: ServiceAccount) -> bool:
        """Whether an account speaks for the server."""
        is_near = account.namespace == self.server.namespace
        return is_near and (not self.accounts or account.name in self.accounts)


def named(annotations: Mapping[str, str]) -> frozenset[str]:
    """The accounts that a server's annotations name."""
    told = annotations.get(ANNOTATION) or ""
    return frozenset(filter(None, map(str.strip, told.split(","))))


class Speakers:
    """Who speaks for which servers.

    Args:
        claims: of all servers, those that cannot be read in other ways included.
    """

    def __init__(self, claims: Iterable[Claim]) -> None:
        self._claims: dict[str, list[Claim]] = {}
        for each in claims:
            if each.accounts:
                self._claims.setdefault(each.server.namespace, []).append(each)

    def closed_to(self, account: ServiceAccount) -> frozenset[ObjectRef]:
        """The servers of its namespace that it does not speak for; for all others, it does.

        So events of a server that was deleted, or is not known yet, are its namespace's.
        """
        found = self._claims.get(account.namespace, ())
        return frozenset(each.server for each in found if not each.admits(account))

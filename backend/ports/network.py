"""What decides who reaches the pods of an MCP server: Services and NetworkPolicies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from extauthz.core.governance import Key

NETWORK_KINDS: Final = ("Service", "NetworkPolicy")
LAST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a label must be. Args: operator: `In`, `NotIn`, `Exists` or `DoesNotExist`."""

    label: str
    operator: str
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """As Kubernetes has it: `NotIn` holds without the label, too; else nothing is chosen."""
        is_there, value = self.label in labels, labels.get(self.label)
        return {
            "In": value in self.values,
            "NotIn": value not in self.values,
            "Exists": is_there,
            "DoesNotExist": not is_there,
        }.get(self.operator, False)


@dataclass(frozen=True, slots=True)
class Ports:
    """Some TCP ports, first to last; or one by the name that a container gives it."""

    first: int = 1
    last: int = LAST_PORT
    name: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod.

    Args:
        ports: of its containers, those with a name.
        is_on_host: it has the node's network, where no NetworkPolicy holds.
        own_port: how its server keeps others off its own port, as an annotation says; empty
            where it says nothing.
    """

    labels: Mapping[str, str]
    ports: Mapping[str, int] = field(default_factory=dict)
    is_on_host: bool = False
    own_port: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A Service. Args: selector: empty chooses nothing; targets: TCP ports of the pods."""

    key: Key
    selector: Mapping[str, str]
    targets: tuple[Ports, ...]


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """A NetworkPolicy, of what comes in.

    Args:
        selector: which pods it is for; none is for all of its namespace.
        is_for_ingress: whether it says anything of what comes in.
        admits: TCP ports, from wherever.
    """

    key: Key
    selector: tuple[Requirement, ...]
    is_for_ingress: bool
    admits: tuple[Ports, ...]


NetworkObject = Service | NetworkPolicy

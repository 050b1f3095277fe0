"""Policies that mcp-runtime's operator writes, and whose they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from extauthz.core.decision import ObjectRef


@dataclass(frozen=True, slots=True)
class PolicyMap:
    """The ConfigMap of a server's policy.

    Args:
        manager: who keeps it, as its label says; empty where it says nothing.
        is_of_server: no other MCPServer owns it, such as one of this name that was deleted.
        adopted_from: who kept it before it was adopted; empty where it was not.
        text: the policy document; empty where it has none.
        version: that a change must still find.
    """

    manager: str
    is_of_server: bool
    adopted_from: str
    text: str
    version: str


class Adoption(Protocol):
    """Hands these over. Blocking. Raises, everywhere: Retryable."""

    def foreign_definitions(self) -> Sequence[str]:
        """Names of definitions of the custom resources that are not Sentinel's."""

    def policy_map(self, server: ObjectRef) -> PolicyMap | None:
        """None where there is none. Raises: NotFound: no such MCPServer."""

    def adopt(self, server: ObjectRef, found: PolicyMap, *, rehearsed: bool) -> None:
        """Make it the controller's, which writes it from then on.

        Args:
            rehearsed: ask for rights and rules, and change nothing.

        Raises:
            Conflict: it was changed meanwhile.
        """

    def release(self, server: ObjectRef, found: PolicyMap, *, rehearsed: bool) -> None:
        """Give it back to who kept it before. Arguments and errors as for `adopt`."""

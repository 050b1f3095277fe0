"""Grants and sessions as commands see them: where they are kept, and what becomes of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from extauthz.core.model import Binding, MCPAccessGrant, MCPAgentSession

Wire = dict[str, Any]  # mcp-runtime's form of an object, as the api sends it (backend/access_forms)


@dataclass(frozen=True, slots=True)
class Kind:
    """What grants and sessions differ in, on the command line.

    Args:
        noun: of one, which is also the member of the api's answers.
        flag: the member that puts one out of force; `off` and `on` set and clear it.
    """

    resource: type[Any]  # one of Binding
    noun: str
    flag: str
    off: str
    on: str

    @property
    def nouns(self) -> str:
        return f"{self.noun}s"

    @property
    def group_name(self) -> str:
        """What `kubectl -o name` writes in front of a name."""
        return f"{self.resource.__name__.lower()}.mcpruntime.org"


GRANT: Final = Kind(MCPAccessGrant, "grant", "disabled", "disable", "enable")
SESSION: Final = Kind(MCPAgentSession, "session", "revoked", "revoke", "unrevoke")
KINDS: Final = (GRANT, SESSION)


@dataclass(frozen=True, slots=True)
class Which:
    """Which objects of a list are meant; empty fields leave all. `server`: its name alone."""

    namespace: str = ""
    server: str = ""
    human_id: str = ""
    agent_id: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What a change did, or would do.

    Args:
        wire: the object as it is now; None where there is none, or nobody tells.
        warnings: what of it has no effect, or too much.
        effect: of a dry run: calls of the last day that would be decided differently, as the api
            tells; None where nobody knows.
    """

    wire: Wire | None
    warnings: Sequence[str] = field(default=())
    effect: Wire | None = None


class Objects(Protocol):
    """Where grants and sessions are kept.

    Every method raises SentinelError or Failure, whose message ends with the mend.
    """

    def list(self, kind: Kind, which: Which) -> Sequence[Wire]:
        """By namespace and name."""

    def get(self, kind: Kind, namespace: str, name: str) -> Wire: ...

    def put(self, kind: Kind, item: Binding, *, keeps: bool, is_new: bool, is_dry: bool) -> Done:
        """Make it, or replace the one of its name.

        Args:
            keeps: what is there keeps its flag (disabled, revoked), for the new one says nothing.
            is_new: fail where it is there already.
            is_dry: change nothing, and tell what it would do.
        """

    def switch(self, kind: Kind, namespace: str, name: str, off: bool, *, is_dry: bool) -> Done:
        """Set or clear its flag."""

    def delete(self, kind: Kind, namespace: str, name: str, *, is_dry: bool) -> Done: ...

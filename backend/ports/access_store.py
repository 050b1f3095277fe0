"""The access store: the custom resources, which are the only source of truth."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer

R = TypeVar("R", MCPServer, MCPAccessGrant, MCPAgentSession)
Binding = TypeVar("Binding", MCPAccessGrant, MCPAgentSession)  # what governance changes


@dataclass(frozen=True, slots=True)
class Stored(Generic[R]):
    """A custom resource as it stands.

    Args:
        version: opaque; another one after every change of the object.
        created_at: RFC 3339; empty where nobody knows. The store sets it where it makes an
            object, and keeps it, whatever a change makes of it.
    """

    resource: R
    version: str
    created_at: str


@dataclass(frozen=True, slots=True)
class Edited(Generic[Binding]):
    """What an edit did; None is no object. Equal ones: nothing was written."""

    before: Stored[Binding] | None
    after: Stored[Binding] | None


class AccessStore(Protocol):
    """The custom resources. Blocking: call it from a thread."""

    def servers(self, namespace: str = "") -> Sequence[MCPServer]:
        """As `objects`, and so are grants and sessions."""
        return [stored.resource for stored in self.objects(MCPServer, namespace)]

    def grants(self, namespace: str = "") -> Sequence[MCPAccessGrant]:
        return [stored.resource for stored in self.objects(MCPAccessGrant, namespace)]

    def sessions(self, namespace: str = "") -> Sequence[MCPAgentSession]:
        return [stored.resource for stored in self.objects(MCPAgentSession, namespace)]

    @abstractmethod
    def objects(self, kind: type[R], namespace: str = "") -> Sequence[Stored[R]]:
        """Sorted by namespace and name; a blank namespace means all. Raises: Retryable."""

    @abstractmethod
    def get(self, kind: type[R], namespace: str, name: str) -> Stored[R]:
        """Raises: NotFound, Retryable."""

    @abstractmethod
    def edit(
        self,
        kind: type[Binding],
        namespace: str,
        name: str,
        change: Callable[[Binding | None], Binding | None],
        *,
        before_write: Callable[[Binding | None, Binding | None], None],
        expected: str = "",
    ) -> Edited[Binding]:
        """Read one object, and write what `change` makes of it; None is no object.

        No edit by somebody else, by whatever way, is lost in between. A change that makes an
        equal object writes nothing.

        Args:
            change: may be called more than once; what it raises comes out, nothing written.
            before_write: called with old and new right before the write, to record it; what
                it raises comes out, nothing written. Called again where somebody else wrote
                in between.
            expected: the version that the object must still have; empty for any.

        Raises:
            Conflict: it has another version, or is gone.
            Invalid: the object cannot be written as it is.
            Retryable: the place is read-only, full or away; nothing is half-written.
        """

    @abstractmethod
    def ping(self) -> None:
        """Raises: Retryable when it cannot be read."""

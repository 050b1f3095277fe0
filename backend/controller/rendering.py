"""A change of a server that renders many grants and sessions anew, in steps. Pure."""

from collections.abc import Iterable
from itertools import islice

from backend.controller.governed import Delta, Governed, Part
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.governance import Key
from extauthz.core.model import MCPServer


class Rendering:
    """What a document is to be; until it is whole, the one that there is goes on, and changes.

    Args:
        server: as it is to be.
        generated_at: RFC 3339.

    Attributes:
        keys: the grants and sessions that name it, counting or not.
    """

    def __init__(self, governed: Governed, server: MCPServer, generated_at: str) -> None:
        self._governed, self._server, self._generated_at = governed, server, generated_at
        self.ref = ObjectRef(server.namespace, server.name)
        self.keys = dict.fromkeys(governed.of_server(self.ref))
        self._left = self.keys.copy()
        self._put: dict[Key, Part] = {}
        self._faults: dict[Key, Invalid] = {}

    def touch(self, keys: Iterable[Key]) -> None:
        """They changed meanwhile."""
        for key in keys:
            self.keys[key] = self._left[key] = None

    def step(self, most: int) -> bool:
        """Render so many; whether that were all."""
        keys = list(islice(self._left, most))
        put, faults = self._governed.rendered(self._server, keys)
        for key in keys:
            del self._left[key]
            self._put.pop(key, None)
            self._faults.pop(key, None)
        self._put |= put
        self._faults |= faults
        return not self._left

    def finish(self) -> Delta:
        """Let it be so, once all is rendered."""
        head = self._governed.head_of(self._server, self._generated_at)
        self._governed.take(self._server, self._put.keys(), self._faults)
        gone = frozenset(key for key in self.keys if key not in self._put)
        return Delta(self.ref, head, self._put, gone)

"""Which objects every connected sidecar enforces. Pure."""

from dataclasses import dataclass

from backend.controller.conditions import Reach
from backend.controller.hub import Hub
from extauthz.core.decision import ObjectRef
from extauthz.core.governance import Key


@dataclass(frozen=True, slots=True)
class _Published:
    """Args: serial: of the server's document that first had the object as it is."""

    server: ObjectRef
    serial: int


class Enforcement:
    """From the serials that followers acknowledge to the objects that they enforce."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._published: dict[Key, _Published] = {}
        self._waiting: dict[ObjectRef, set[Key]] = {}
        self._least: dict[ObjectRef, int] = {}  # serial that all followers run; -1: not all do

    def published(self, key: Key, server: ObjectRef) -> None:
        """The server's document has the object as it is now."""
        document = self._hub.document(server)
        if document is not None:
            self._published[key] = _Published(server, document.serial)
            self._waiting.setdefault(server, set()).add(key)

    def forget(self, key: Key) -> None:
        """The object is gone."""
        found = self._published.pop(key, None)
        if found is not None:
            self._waiting.get(found.server, set()).discard(key)

    def reached(self, server: ObjectRef) -> set[Key]:
        """Objects that came to be enforced since this was last asked."""
        followers = self._hub.followers(server)
        least = min((each.serial for each in followers), default=-1)
        if self._least.get(server) == least or least < 0:
            self._least[server] = least
            return set()
        self._least[server] = least
        waiting = self._waiting.get(server, set())
        done = {key for key in waiting if self._published[key].serial <= least}
        waiting -= done
        return done

    def reach(self, key: Key, server: ObjectRef) -> Reach:
        """How far an object has come."""
        found, followers = self._published.get(key), self._hub.followers(server)
        if found is None:
            return Reach(len(followers), 0)
        enforcing = sum(each.serial >= found.serial for each in followers)
        refusals = tuple(
            f"{each.gateway}: {each.error}"
            for each in followers
            if each.error and each.serial < found.serial
        )
        return Reach(len(followers), enforcing, refusals)

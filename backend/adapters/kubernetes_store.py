"""AccessStore over a cluster: the custom resources as its API server keeps them."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from backend.adapters.kubernetes_client import CustomObjects, Raw, named
from backend.ports.access_edits import prepare, require_version
from backend.ports.access_store import AccessStore, Binding, Edited, R, Stored
from extauthz.core.errors import Conflict, Invalid, NotFound, Retryable
from extauthz.core.governance import Key
from extauthz.core.model import (
    API_VERSION,
    MCPAccessGrant,
    MCPAgentSession,
    MCPServer,
    Resource,
)
from extauthz.core.resources import parse_object
from extauthz.core.writing import merge_patch, to_object

_PLURALS: Final[dict[type[Resource], str]] = {
    MCPServer: "mcpservers",
    MCPAccessGrant: "mcpaccessgrants",
    MCPAgentSession: "mcpagentsessions",
}
_MOST_TRIES: Final = 50  # while somebody else keeps writing the object

_log = logging.getLogger(__name__)


class KubernetesStore(AccessStore):
    """The custom resources of a cluster.

    What cannot be read as one of ours is left out of lists, and logged: the controller says in
    its status what is wrong with it.

    Args:
        clock: seconds since the epoch; until the API server says when it made something.
        left_out: told of an object that cannot be read, and why.
    """

    def __init__(
        self,
        objects: CustomObjects,
        *,
        clock: Callable[[], float] = time.time,
        left_out: Callable[[Key, Invalid], None] | None = None,
    ) -> None:
        self._objects, self._clock = objects, clock
        self._left_out = left_out or _log_left_out

    def objects(self, kind: type[R], namespace: str = "") -> Sequence[Stored[R]]:
        found: list[Stored[R]] = []
        for raw in self._list(kind, namespace):
            try:
                found.append(_stored(kind, raw))
            except Invalid as error:
                meta = raw["metadata"]
                self._left_out(Key(kind.__name__, meta["namespace"], meta["name"]), error)
        return sorted(found, key=lambda each: (each.resource.namespace, each.resource.name))

    def get(self, kind: type[R], namespace: str, name: str) -> Stored[R]:
        key = Key(kind.__name__, namespace, name)
        raw = self._objects.get(_PLURALS[kind], key)
        try:
            return _stored(kind, raw)
        except Invalid as error:
            raise NotFound(f"{named(key)} is there, but cannot be read: {error}") from error

    def ping(self) -> None:
        self._objects.page(_PLURALS[MCPServer])

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
        key = Key(kind.__name__, namespace, name)
        for _ in range(_MOST_TRIES):
            raw = self._found(kind, key)
            before = _stored(kind, raw) if raw else None
            require_version(key, before, expected)
            old = before.resource if before else None
            new = prepare(change(old), old, key, self._clock())
            if new == old:
                return Edited(before, before)
            try:
                self._write(kind, key, raw, old, new, rehearsed=True)
            except Conflict:
                continue
            before_write(old, new)
            try:
                return Edited(before, self._write(kind, key, raw, old, new))
            except Conflict:
                continue
        raise Retryable(f"{named(key)} is being written all the time; try again")

    def _write(
        self,
        kind: type[Binding],
        key: Key,
        raw: Raw | None,
        old: Binding | None,
        new: Any,
        *,
        rehearsed: bool = False,  # first, so that nothing is recorded that is refused then
    ) -> Stored[Binding] | None:
        """Raises: Conflict: what was read is no more."""
        plural = _PLURALS[kind]
        if raw is None:
            body = to_object(new)
            body["metadata"].pop("creationTimestamp", None)
            return _stored(kind, self._objects.create(plural, key, body, rehearsed=rehearsed))
        uid, version = raw["metadata"]["uid"], raw["metadata"]["resourceVersion"]
        try:
            if new is None or old is None:
                self._objects.delete(plural, key, uid, version, rehearsed=rehearsed)
                return None
            spec = merge_patch(to_object(old)["spec"], to_object(new)["spec"])
            body = {"metadata": {"uid": uid, "resourceVersion": version}, "spec": spec}
            return _stored(kind, self._objects.patch(plural, key, body, rehearsed=rehearsed))
        except NotFound as error:
            raise Conflict(str(error)) from error

    def _list(self, kind: type[Resource], namespace: str) -> Iterator[Raw]:
        """Page by page, as the objects stood at the first."""
        following, is_first = "", True
        while following or is_first:
            page = self._objects.page(_PLURALS[kind], namespace, following)
            for raw in page["items"]:
                yield raw | {"apiVersion": API_VERSION, "kind": kind.__name__}
            following, is_first = page["metadata"].get("continue") or "", False

    def _found(self, kind: type[Resource], key: Key) -> Raw | None:
        try:
            return self._objects.get(_PLURALS[kind], key)
        except NotFound:
            return None


def _log_left_out(key: Key, why: Invalid) -> None:
    told = {"kind": key.kind, "namespace": key.namespace, "object": key.name, "error": str(why)}
    _log.warning("object left out: it cannot be read", extra=told)


def _stored(kind: type[R], raw: Raw) -> Stored[R]:
    """The generation follows the spec; a status that is written makes no other version.

    Raises:
        Invalid: it cannot be read.
    """
    resource = parse_object({**raw, "status": None})
    assert isinstance(resource, kind)
    meta = raw["metadata"]
    version = f"{meta['uid']}-{meta['generation']}"
    return Stored(resource, version, meta["creationTimestamp"])

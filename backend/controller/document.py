"""One server's document with its latest changes, and what leads from an older revision to it."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from backend.controller.governed import KINDS, Delta, Part
from extauthz.core.canonical import canonical, digest
from extauthz.core.governance import Key
from extauthz.core.revision import SortedDigests, compatible_revision, head_digest

MOST_REMEMBERED: Final = 20_000  # changed objects, for sidecars that come back
_ONE_BY_ONE: Final = 1_000  # changes; of more, all digests are sorted anew


@dataclass(frozen=True, slots=True)
class Update:
    """What a follower is sent.

    Args:
        revision: of the document after it.
        base: of the document that it changes; empty: it starts from nothing.
        head: JSON; empty where it stays.
        grants, sessions: JSON, one object each.
        removed: keys of grants and sessions.
    """

    revision: str
    base: str
    head: bytes = b""
    grants: tuple[bytes, ...] = ()
    sessions: tuple[bytes, ...] = ()
    removed: tuple[Key, ...] = ()

    @property
    def is_full(self) -> bool:
        """Whether it starts from nothing."""
        return not self.base


@dataclass(frozen=True, slots=True)
class _Step:
    """One change. Args: before: the revision that it left."""

    before: str
    keys: tuple[Key, ...]
    has_head: bool


class LiveDocument:
    """A document that takes changes: one grant among a hundred thousand costs milliseconds.

    Args:
        most_remembered: changed objects that are remembered, for increments.

    Attributes:
        revision: of its content; empty before there is a head.
        serial: counts its changes; of two, the later one has the larger.
        size: bytes of it as JSON, about.
    """

    def __init__(self, most_remembered: int = MOST_REMEMBERED) -> None:
        self.revision, self.serial, self.size = "", 0, 0
        self._head, self._head_digest = b"", b""
        self._parts: dict[str, dict[Key, Part]] = {kind: {} for kind in KINDS}
        self._sorted = SortedDigests()
        self._steps: deque[_Step] = deque()
        self._first = 0  # number of the first step that is remembered
        self._left: dict[str, int] = {}  # revision to the last step that left it
        self._remembered, self._most = 0, most_remembered

    def apply(self, delta: Delta) -> bool:
        """Change it; False where nothing changed."""
        keys = self._change_objects(delta)
        has_head = False
        if delta.head is not None and (new := head_digest(delta.head)) != self._head_digest:
            head = canonical(delta.head)
            self.size += len(head) - len(self._head)
            self._head, self._head_digest, has_head = head, new, True
        if not (keys or has_head) or not self._head:
            return False
        before, self.revision = self.revision, digest(self._sorted.joined, self._head_digest)
        self.serial += 1
        if before:
            self._remember(_Step(before, keys, has_head))
        return True

    def since(self, revision: str) -> Update:
        """What leads there from `revision`: nothing, an increment, or all of it."""
        if revision == self.revision:
            return Update(self.revision, self.revision)
        number = self._left.get(revision)
        if number is None:
            return self.full()
        keys: set[Key] = set()
        has_head = False
        for place in range(number - self._first, len(self._steps)):
            keys.update(self._steps[place].keys)
            has_head |= self._steps[place].has_head
        return self._update(revision, keys, self._head if has_head else b"")

    def full(self) -> Update:
        """All of it."""
        grants, sessions = (tuple(part.body for part in self._parts[k].values()) for k in KINDS)
        return Update(self.revision, "", self._head, grants, sessions)

    def whole(self) -> dict[str, Any]:
        """All of it as one document, as `core.render` gives it."""
        document: dict[str, Any] = orjson.loads(self._head)
        for name, kind in (("grants", "MCPAccessGrant"), ("sessions", "MCPAgentSession")):
            if parts := self._parts[kind]:
                document[name] = [orjson.loads(parts[key].body) for key in sorted(parts)]
        document["revision"] = compatible_revision(document)
        document["content_digest"] = self.revision
        return document

    def _update(self, base: str, keys: Iterable[Key], head: bytes) -> Update:
        there: dict[str, list[bytes]] = {kind: [] for kind in KINDS}
        gone = []
        for key in keys:
            if part := self._parts[key.kind].get(key):
                there[key.kind].append(part.body)
            else:
                gone.append(key)
        grants, sessions = (tuple(there[kind]) for kind in KINDS)
        return Update(self.revision, base, head, grants, sessions, tuple(gone))

    def _change_objects(self, delta: Delta) -> tuple[Key, ...]:
        """Those that really changed."""
        changed = [key for key, new in delta.put.items() if self._digest(key) != new.digest]
        gone = [key for key in delta.gone if key in self._parts[key.kind]]
        if len(changed) + len(gone) <= _ONE_BY_ONE:
            self._change_each(delta.put, (*changed, *gone))
        else:
            self._change_many(delta.put, changed, gone)
        return (*changed, *gone)

    def _change_each(self, put: Mapping[Key, Part], keys: Iterable[Key]) -> None:
        for key in keys:
            old, new = self._parts[key.kind].pop(key, None), put.get(key)
            if old:
                self.size -= len(old.body)
                self._sorted.remove(old.digest)
            if new:
                self._parts[key.kind][key] = new
                self.size += len(new.body)
                self._sorted.add(new.digest)

    def _change_many(
        self, put: Mapping[Key, Part], changed: Iterable[Key], gone: Iterable[Key]
    ) -> None:
        """In one go: nothing else goes on meanwhile."""
        for key in changed:
            self._parts[key.kind][key] = put[key]
        for key in gone:
            del self._parts[key.kind][key]
        parts = [part for kind in KINDS for part in self._parts[kind].values()]
        self._sorted = SortedDigests([part.digest for part in parts])
        self.size = len(self._head) + sum([len(part.body) for part in parts])

    def _digest(self, key: Key) -> bytes:
        part = self._parts[key.kind].get(key)
        return part.digest if part else b""

    def _remember(self, step: _Step) -> None:
        self._left[step.before] = self._first + len(self._steps)
        self._steps.append(step)
        self._remembered += 1 + len(step.keys)
        while self._remembered > self._most:
            oldest = self._steps.popleft()
            if self._left.get(oldest.before) == self._first:
                del self._left[oldest.before]
            self._first += 1
            self._remembered -= 1 + len(oldest.keys)

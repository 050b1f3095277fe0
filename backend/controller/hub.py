"""Who follows which document, at which revision, and what each is to be sent next. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from backend.controller.document import LiveDocument, Update
from backend.controller.governed import Delta
from backend.ports.network import Pod
from extauthz.core.decision import ObjectRef

MOST_ERROR = 500  # characters of a sidecar's reason


@dataclass(frozen=True, slots=True)
class Sent:
    """An update on its way, by its nonce. Args: serial: of the document that it leads to."""

    nonce: str
    update: Update
    serial: int


class Follower:
    """One sidecar on one stream.

    At most one update is on its way to it: what changes meanwhile comes with the next.

    Args:
        revision: what it says it holds.
        wake: called when there may be something to be sent.
        pod: where it runs, as far as is known.

    Attributes:
        holds: the revision that it last said it holds.
        error: why it refused the last update; empty where it did not.
    """

    def __init__(
        self,
        document: LiveDocument,
        server: ObjectRef,
        gateway: str,
        revision: str,
        wake: Callable[[], None],
        pod: Pod | None = None,
    ) -> None:
        self.server, self.gateway, self.holds, self.wake = server, gateway, revision, wake
        self.pod = pod
        self.error, self._serial = "", -1
        self._document = document
        self._on_its_way: Sent | None = None
        self._confirming: Sent | None = None
        self._refused = ""  # the revision that it refused as a full update
        self._needs_full = False
        self._number = 0

    @property
    def is_answering(self) -> bool:
        """Whether an update waits for its answer."""
        return self._on_its_way is not None

    @property
    def serial(self) -> int:
        """Of the document that it runs; -1 while that is not known."""
        is_current = self.is_same and self._serial >= 0
        return self._document.serial if is_current else self._serial

    @property
    def is_same(self) -> bool:
        """Whether it says that it holds the document as it is."""
        return self.holds == self._document.revision and not self._needs_full

    @property
    def is_current(self) -> bool:
        """Whether it runs the document as it is."""
        return self.serial == self._document.serial

    def due(self, *, confirm: bool = False) -> Sent | None:
        """What is to be sent now; None where nothing is.

        Args:
            confirm: tell it so where it has nothing to learn.
        """
        document = self._document
        if self._on_its_way or not document.revision:
            return None
        if self.is_same:
            if not confirm:
                return None
            self._confirming = self._sent(document.since(self.holds))
            return self._confirming
        if self._refused == document.revision:
            return None
        update = document.full() if self._needs_full else document.since(self.holds)
        self._on_its_way = self._sent(update)
        return self._on_its_way

    def answered(self, nonce: str, revision: str, error: str) -> None:
        """It took an update, or did not. Answers to anything else do not count."""
        for sent in (self._on_its_way, self._confirming):
            if sent is not None and sent.nonce == nonce:
                break
        else:
            return
        if sent is self._on_its_way:
            self._on_its_way = None
        else:
            self._confirming = None
        self.holds, self.error = revision, error
        if not error and revision == sent.update.revision:
            self._serial, self._needs_full, self._refused = sent.serial, False, ""
        else:
            self.error = self.error or "it runs another revision than it was sent"
            self._serial, self._needs_full = -1, True
            self._refused = sent.update.revision if sent.update.is_full else self._refused

    def _sent(self, update: Update) -> Sent:
        self._number += 1
        return Sent(str(self._number), update, self._document.serial)


class Hub:
    """All documents, and their followers.

    Args:
        told: called for each server whose document or followers changed.
    """

    def __init__(self, told: Callable[[ObjectRef], None]) -> None:
        self._told = told
        self._documents: dict[ObjectRef, LiveDocument] = {}
        self._followers: dict[ObjectRef, list[Follower]] = {}

    def publish(self, delta: Delta) -> bool:
        """Change a document, and wake its followers; False where nothing changed."""
        document = self._documents.setdefault(delta.server, LiveDocument())
        if not document.apply(delta):
            return False
        for follower in self.followers(delta.server):
            follower.wake()
        self._told(delta.server)
        return True

    def withdraw(self, server: ObjectRef) -> Sequence[Follower]:
        """There is no such server any more. Returns: who followed it."""
        self._documents.pop(server, None)
        self._told(server)
        return self.followers(server)

    def document(self, server: ObjectRef) -> LiveDocument | None:
        """The document of a server that exists."""
        return self._documents.get(server)

    def follow(
        self,
        server: ObjectRef,
        gateway: str,
        revision: str,
        wake: Callable[[], None],
        pod: Pod | None = None,
    ) -> Follower | None:
        """Let a sidecar follow; None where there is no such server."""
        document = self._documents.get(server)
        if document is None:
            return None
        follower = Follower(document, server, gateway, revision, wake, pod)
        self._followers.setdefault(server, []).append(follower)
        self._told(server)
        return follower

    def answered(self, follower: Follower, nonce: str, revision: str, error: str) -> None:
        """As `Follower.answered`, and tell."""
        before = (follower.serial, follower.error)
        follower.answered(nonce, revision, error)
        follower.wake()
        if (follower.serial, follower.error) != before:
            self._told(follower.server)

    def leave(self, follower: Follower) -> None:
        """Its stream has ended."""
        left = self._followers[follower.server]
        left.remove(follower)
        if not left:
            del self._followers[follower.server]
        self._told(follower.server)

    def followers(self, server: ObjectRef) -> Sequence[Follower]:
        """Those of one server, now."""
        return tuple(self._followers.get(server, ()))

    def all_followers(self) -> Iterable[Follower]:
        """Those of all servers, now."""
        return [each for followers in self._followers.values() for each in followers]

"""Puts an update together that travels in several messages; pure."""

from dataclasses import dataclass, field
from typing import Final

from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.sources.stream.options import MAX_DOCUMENT
from protos.gen.policy_stream_pb2 import PolicyUpdate

_PART_BYTES: Final = 64  # what a part costs here beside its bytes


@dataclass(slots=True)
class Update:
    """A complete update, its parts as they came.

    Args:
        nonce, revision, base: as in the messages.
        bytes: of all parts together.
    """

    nonce: str
    revision: str
    base: str
    head: bytes = b""
    grants: list[bytes] = field(default_factory=list)
    sessions: list[bytes] = field(default_factory=list)
    gone_grants: list[ObjectRef] = field(default_factory=list)
    gone_sessions: list[ObjectRef] = field(default_factory=list)
    bytes: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether it changes nothing."""
        return not any(
            (self.head, self.grants, self.sessions, self.gone_grants, self.gone_sessions)
        )


class Assembly:
    """Collects messages until an update is complete.

    Args:
        max_bytes: of one update.

    Attributes:
        pending: whether an update has begun and is not complete.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._update: Update | None = None
        self._spent = ""  # the nonce that was answered last; more of it is passed over
        self._is_refused = False  # whether that was before its end

    @property
    def pending(self) -> bool:
        return self._update is not None

    def add(self, message: PolicyUpdate) -> Update | None:
        """Take one message; the update that it completes.

        Raises:
            Invalid: the update is refused; what else comes of it is passed over.
        """
        if says_nothing(message):
            return None
        nonce = message.nonce
        if nonce == self._spent and self._is_refused:
            self._is_refused = not message.complete
            return None
        update = self._update
        if update is None or update.nonce != nonce:
            update = Update(nonce, message.revision, message.base_revision)
            self._update = update
        try:
            self._check(update, message)
        except Invalid:
            self._update, self._spent, self._is_refused = None, nonce, not message.complete
            raise
        _extend(update, message)
        if not message.complete:
            return None
        self._update, self._spent = None, nonce
        return update

    def _check(self, update: Update, message: PolicyUpdate) -> None:
        if not update.nonce or update.nonce == self._spent:
            raise Invalid("nonce", f"`{update.nonce}` is not new", "number the updates of a stream")
        if not message.revision:
            raise Invalid("revision", "is missing", "name the document's content digest")
        if (message.revision, message.base_revision) != (update.revision, update.base):
            raise Invalid("revision", "differs within one update", "give each update its nonce")
        if message.head and update.head:
            raise Invalid("head", "stands twice in one update", "send it once")
        update.bytes += message.ByteSize() + _PART_BYTES * _parts(message)
        if update.bytes > self._max_bytes:
            mend = f"raise {MAX_DOCUMENT} on the sidecar, or grant less to this server"
            raise Invalid("$", f"the update is larger than `{self._max_bytes}` bytes", mend)


def says_nothing(message: PolicyUpdate) -> bool:
    """Whether the controller says only that it is there."""
    return not message.ByteSize()


def _parts(message: PolicyUpdate) -> int:
    gone = len(message.removed_grants) + len(message.removed_sessions)
    return gone + len(message.grants) + len(message.sessions)


def _extend(update: Update, message: PolicyUpdate) -> None:
    update.head = update.head or message.head
    update.grants += message.grants
    update.sessions += message.sessions
    update.gone_grants += [ObjectRef(key.namespace, key.name) for key in message.removed_grants]
    update.gone_sessions += [ObjectRef(key.namespace, key.name) for key in message.removed_sessions]

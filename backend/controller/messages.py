"""An update as the messages that carry it."""

from collections.abc import Iterator
from typing import Final

from backend.controller.hub import Sent
from extauthz.core.governance import Key
from protos.gen import policy_stream_pb2 as wire

MESSAGE_BYTES: Final = 256 << 10  # about; a sidecar decides calls between two of them
_KEY_BYTES: Final = 520  # a namespace and a name, at most


def messages(sent: Sent) -> Iterator[wire.PolicyUpdate]:
    """Split by size; one object is never split, so the largest of them may make one larger."""
    update = sent.update
    message, size = _message(sent), len(update.head)
    message.head = update.head
    for name, parts in (("grants", update.grants), ("sessions", update.sessions)):
        for part in parts:
            if size + len(part) > MESSAGE_BYTES:
                yield message
                message, size = _message(sent), 0
            getattr(message, name).append(part)
            size += len(part)
    for key in update.removed:
        if size + _KEY_BYTES > MESSAGE_BYTES:
            yield message
            message, size = _message(sent), 0
        _removed(message, key)
        size += _KEY_BYTES
    message.complete = True
    yield message


def _message(sent: Sent) -> wire.PolicyUpdate:
    update = sent.update
    return wire.PolicyUpdate(nonce=sent.nonce, revision=update.revision, base_revision=update.base)


def _removed(message: wire.PolicyUpdate, key: Key) -> None:
    named = wire.ObjectKey(namespace=key.namespace, name=key.name)
    if key.kind == "MCPAccessGrant":
        message.removed_grants.append(named)
    else:
        message.removed_sessions.append(named)

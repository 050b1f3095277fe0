"""A change as the event that tells of it, and back."""

from typing import Final

import orjson

from backend.ports.event_log import Message
from extauthz.core.errors import Invalid
from extauthz.core.events import EventType
from extauthz.core.governance import Change, change_payload, read_change
from extauthz.core.history import Recorded
from extauthz.core.times import format_instant, parse_instant

SOURCE: Final = "sentinel"
_KEY: Final = b"governance"  # one key keeps all changes in one partition, in order


def message_of(recorded: Recorded, *, producer: str, event_id: str) -> Message:
    """What goes into the log."""
    envelope = {
        "producer": producer,
        "event_id": event_id,
        "timestamp": format_instant(recorded.at),
        "source": SOURCE,
        "event_type": EventType.GOVERNANCE_CHANGE.value,
        "payload": change_payload(recorded.change),
    }
    return Message(orjson.dumps(envelope), _KEY)


def read_message(message: Message) -> Recorded:
    """What a message of ours tells. Raises: Invalid."""
    try:
        envelope = orjson.loads(message.value)
        at, payload = envelope["timestamp"], orjson.dumps(envelope["payload"])
        return Recorded(parse_instant(at, "timestamp"), read_change(payload))
    except (LookupError, TypeError, ValueError) as error:
        raise Invalid("$", "is no record of a change", "look at who else wrote it") from error


def told(change: Change) -> dict[str, str]:
    """What a log line says of it."""
    return {"action": change.action.value, "actor": change.actor, **change.key._asdict()}

"""A request's body to the messages that go into the log. Pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec
import orjson

from backend.auth.principal import Principal
from backend.ingest.refusals import NotYours, Refused, invalid, too_large
from backend.ingest.strict import MAX_EVENT_BYTES, events_of, value_of
from backend.ports.event_log import Headers, Message
from backend.ports.event_store import EVENT_TIMES_END
from extauthz.core.errors import Invalid
from extauthz.core.events import MAX_NAME_BYTES, check_envelope
from extauthz.core.times import format_instant, parse_instant

MAX_AHEAD_SECONDS: Final = 3600.0  # how far a producer's clock may be before ours
OWN_PREFIX: Final = "governance."  # events that only Sentinel's own components may write

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_members_of: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Reception:
    """What one request's events are checked against and completed with.

    Args:
        sender: who is authenticated; its name becomes each event's `producer`.
        now: seconds since the epoch, for events without a time.
        earliest, latest: seconds since the epoch; events may not be earlier or later.
        new_id: makes a UUIDv7.
        headers: of each message.
    """

    sender: Principal
    now: float
    earliest: float
    latest: float
    new_id: Callable[[], str]
    headers: Headers = ()


def messages_of(body: bytes, *, lines: bool, reception: Reception) -> list[Message]:
    """Check every event, fill what is absent, stamp the producer. All or nothing.

    Args:
        body: one envelope, an array of them, or NDJSON.
        lines: the body is NDJSON.

    Raises:
        Refused, NotYours: naming the first event at fault.
    """
    stamp = b'{"producer":' + orjson.dumps(reception.sender.name)
    messages: list[Message] = []
    for index, text in events_of(body, lines=lines):
        try:
            messages.append(_message(text, stamp, reception))
        except (Refused, NotYours) as error:
            raise (error if index is None else error.within(index)) from None
    return messages


def _message(text: bytes, stamp: bytes, reception: Reception) -> Message:
    if len(text) > MAX_EVENT_BYTES:
        mend = "send less in its payload"
        raise too_large(f"the event exceeds {MAX_EVENT_BYTES} bytes", mend)
    try:
        envelope = check_envelope(value_of(text))
        _check_name("source", envelope["source"])
        _check_name("event_type", envelope["event_type"])
        if "trace_id" in envelope:
            _check_text("trace_id", envelope["trace_id"])
        if "resent" in envelope and type(envelope["resent"]) is not bool:
            raise Invalid("resent", "must be true or false", "leave it out")
        added = _added(envelope, reception)
    except Refused:
        raise
    except Invalid as error:
        raise invalid(error.field, error.problem, error.mend) from None
    payload = envelope["payload"]
    _check_sender(envelope["event_type"], payload, reception.sender)
    is_there = "producer" in envelope or not added.keys().isdisjoint(envelope)
    if is_there or b"\n" in text or b"\r" in text:
        value = _rewritten(text, added | {"producer": reception.sender.name})
    else:
        # Put in front of the text, whose keys are known to be others: no byte of it changes.
        fresh = b"," + orjson.dumps(added)[1:-1] if added else b""
        value = b"%b%b,%b" % (stamp, fresh, text[1:])
    return Message(value, _key(payload), reception.headers)


def _added(envelope: dict[str, Any], reception: Reception) -> dict[str, str]:
    """The members that this event lacks, or that must be written otherwise."""
    added: dict[str, str] = {}
    event_id = envelope.get("event_id", "")
    if not event_id:
        added["event_id"] = reception.new_id()
    elif not _UUID.fullmatch(event_id):
        raise Invalid("event_id", f"`{event_id[:64]}` is not a UUID", "send a UUIDv7")
    elif not event_id.islower() and (lower := event_id.lower()) != event_id:
        added["event_id"] = lower  # ids are compared as text
    timestamp = envelope.get("timestamp", "")
    if not timestamp:
        added["timestamp"] = format_instant(reception.now)
        return added
    at = parse_instant(timestamp, "timestamp")
    if not 0 <= at < EVENT_TIMES_END:
        raise Invalid("timestamp", f"`{timestamp[:64]}` is out of range", "send 1970 to 2105")
    if at < reception.earliest:
        problem = f"`{timestamp[:64]}` is older than what is taken"
        mend = "set the producer's clock, or INGEST_MAX_AGE_DAYS and EVENT_RETENTION_DAYS"
        raise Invalid("timestamp", problem, mend)
    if at > reception.latest:
        mend = "set the producer's clock"
        raise Invalid("timestamp", f"`{timestamp[:64]}` is more than an hour ahead", mend)
    return added


def _check_text(field: str, text: str) -> None:
    """Names are columns and go to terminals; payloads keep what a caller sent, as escapes.

    What cannot be seen would let one name look like another, such as `governance.change`.
    """
    if not text.isprintable():
        raise Invalid(field, "holds a character that cannot be seen", "remove it")
    if len(text.encode()) > MAX_NAME_BYTES:
        raise Invalid(field, f"is longer than {MAX_NAME_BYTES} bytes", "shorten it")


_check_name: Final = lru_cache(maxsize=1024)(_check_text)  # of sources and types there are few


def _check_sender(event_type: str, payload: Any, sender: Principal) -> None:
    if event_type.strip().lower().startswith(OWN_PREFIX) and sender.component is None:
        problem = f"`{OWN_PREFIX}*` events come from the api and the controller alone"
        raise NotYours("event_type", problem, "change the resource through them")
    origins = sender.origins
    if origins is None:
        return
    of = payload if isinstance(payload, dict) else {}
    namespace, server = of.get("namespace"), of.get("server")
    if not isinstance(namespace, str) or not isinstance(server, str):
        field = "payload.server" if isinstance(namespace, str) else "payload.namespace"
        raise NotYours(field, "is missing, and this credential is bound", "name the MCP server")
    if not origins.hold(namespace, server):
        is_near = origins.servers or namespace in origins.namespaces
        field = "payload.server" if is_near else "payload.namespace"
        problem = f"`{namespace[:64]}/{server[:64]}` is none of this credential's servers"
        raise NotYours(field, problem, "send it with that server's own credential")


def _rewritten(text: bytes, added: dict[str, str]) -> bytes:
    """The event with these members instead of its own, on one line; all else as it was written."""
    members = _members_of(text)
    members |= {name: msgspec.Raw(orjson.dumps(value)) for name, value in added.items()}
    return msgspec.json.format(msgspec.json.encode(members), indent=-1)


def _key(payload: Any) -> bytes | None:
    """What one start of a gateway sends stays in order, and with its copies; others need none.

    Not the producer's name: an event that is sent again after its key was replaced has another.
    """
    start = payload.get("gateway_start") if type(payload) is dict else None
    if not isinstance(start, str) or not 0 < len(start) <= MAX_NAME_BYTES:
        return None
    return start.encode()

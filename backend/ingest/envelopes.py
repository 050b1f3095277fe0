"""A request's body to the messages that go into the log. Pure."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

from backend.ports import EVENT_TIMES_END, Headers, Message
from extauthz.core.errors import Forbidden, Invalid
from extauthz.core.events import check_envelope
from extauthz.core.strictjson import Refused, parse
from extauthz.core.times import format_instant, parse_instant

MAX_EVENT_BYTES: Final = 1 << 20
MAX_EVENTS: Final = 10_000  # in one request
MAX_ID_LENGTH: Final = 128
OWN_PREFIX: Final = "governance."  # events that only Sentinel itself may write


class TooLarge(Invalid):
    """An event or a request exceeds its bound."""


class BadJson(Invalid):
    """The body is not strict JSON, or holds a number that we cannot keep exactly."""


def messages_of(
    body: bytes,
    *,
    lines: bool,
    producer: str,
    now: float,
    new_id: Callable[[], str],
    headers: Headers = (),
) -> list[Message]:
    """Check every event, fill what is absent, stamp the producer. All or nothing.

    Args:
        body: one envelope, an array of them, or NDJSON.
        lines: the body is NDJSON.
        producer: name of the authenticated principal; a client's own is overwritten.
        now: seconds since the epoch.

    Raises:
        BadJson, TooLarge, Invalid, Forbidden: naming the first event at fault.
    """
    messages: list[Message] = []
    for where, value in _values(body, lines):
        if len(messages) == MAX_EVENTS:
            raise TooLarge("", f"more than {MAX_EVENTS} events", "send them in several requests")
        envelope = _complete(check_envelope(value, where), where, now, new_id)
        envelope["producer"] = producer
        messages.append(Message(_dump(envelope, where), headers=headers))
    if not messages:
        raise Invalid("", "the request holds no event", "send at least one")
    return messages


def _values(body: bytes, lines: bool) -> Iterator[tuple[str, Any]]:
    """Events, each with the prefix for its field names."""
    if lines:
        for index, line in enumerate(filter(bytes.strip, body.split(b"\n"))):
            where = f"[{index}]."
            if len(line) > MAX_EVENT_BYTES:
                raise _too_large(where)
            yield where, _parse(line, where)
        return
    value = _parse(body, "")
    if not isinstance(value, list):
        if len(body) > MAX_EVENT_BYTES:
            raise _too_large("")
        yield "", value
        return
    yield from ((f"[{index}].", each) for index, each in enumerate(value))


def _parse(text: bytes, where: str) -> Any:
    try:
        return parse(text)
    except Refused as error:
        raise BadJson(where.rstrip("."), error.detail, "send strict JSON in UTF-8") from None


def _complete(
    envelope: dict[str, Any], where: str, now: float, new_id: Callable[[], str]
) -> dict[str, Any]:
    if envelope["event_type"].startswith(OWN_PREFIX):
        raise Forbidden(
            f"{where}event_type: `{OWN_PREFIX}*` events are written by the api and the controller"
            " alone; change the resource through them"
        )
    event_id = (envelope.get("event_id") or "").strip()
    if len(event_id) > MAX_ID_LENGTH:
        raise Invalid(
            where + "event_id", f"is longer than {MAX_ID_LENGTH} characters", "send a UUIDv7"
        )
    envelope["event_id"] = event_id or new_id()
    timestamp = (envelope.get("timestamp") or "").strip()
    if timestamp and not 0 <= parse_instant(timestamp, where + "timestamp") < EVENT_TIMES_END:
        raise Invalid(
            where + "timestamp", f"`{timestamp[:64]}` is out of range", "send 1970 to 2149"
        )
    envelope["timestamp"] = timestamp or format_instant(now)
    return envelope


def _dump(envelope: dict[str, Any], where: str) -> bytes:
    try:
        value = orjson.dumps(envelope)
    except TypeError:  # the one thing that JSON may hold and orjson may not
        raise BadJson(
            where + "payload", "holds an integer of more than 64 bits", "send it as a string"
        ) from None
    if len(value) > MAX_EVENT_BYTES + 1024:  # room for what ingest itself adds
        raise _too_large(where)
    return value


def _too_large(where: str) -> TooLarge:
    return TooLarge(
        where.rstrip("."), f"the event exceeds {MAX_EVENT_BYTES} bytes", "send less in its payload"
    )

"""A body to the bytes of its events, and each of these to a value, strictly. Pure.

Memory is bounded however hostile the body: an array is taken apart without building what its
events hold, and these are read one after the other.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import jiter
import msgspec

from backend.ingest.refusals import Refused, bad_json, invalid, too_large
from extauthz.core import strictjson
from extauthz.core.strictjson import MAX_DEPTH

MAX_EVENTS: Final = 10_000  # in one request
MAX_EVENT_BYTES: Final = 1 << 20
_WHITE: Final = b" \t\r\n"
_MAX_INTEGER: Final = 1 << 64  # readers of the store keep no larger ones exactly


class _Shape(msgspec.Struct):
    """What every event has at least: hostile elements cost more bytes than memory."""

    source: msgspec.Raw
    event_type: msgspec.Raw
    payload: msgspec.Raw


_shapes_of: Final = msgspec.json.Decoder(list[_Shape]).decode
_elements_of: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_AT: Final = re.compile(r"- at `\$\[(\d+)\]")
_MISSING: Final = re.compile(r"required field `(\w+)`")
_lenient: Final = json.JSONDecoder().raw_decode
_START: Final = re.compile(r"[^\]\s,]")  # of the next event
_WINDOWS: Final = (1 << 16, MAX_EVENT_BYTES + 1)


def events_of(body: bytes, *, lines: bool) -> Iterator[tuple[int | None, bytes]]:
    """Each event's bytes without white space around them, and its index; None for a single one.

    Raises:
        Refused: the body is neither an event nor several.
    """
    if lines:
        if body.count(b"\n") > 2 * MAX_EVENTS:
            raise _too_many()
        return _several(filter(None, (line.strip(_WHITE) for line in body.split(b"\n"))))
    text = body.strip(_WHITE)
    if text[:1] == b"[":
        return _several(_elements(text))
    return iter(((None, text),))


def value_of(text: bytes) -> Any:
    """The value of one document.

    As `core.strictjson.parse`, but numbers and nesting are judged by the values, which costs a
    third of looking through the text. An integer of more than 64 bits is refused too.

    Raises:
        Refused: it is not strict JSON.
    """
    try:
        value = jiter.from_json(
            text, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys"
        )
    except ValueError as error:
        raise bad_json("", _reason(text, error)) from None
    if type(value) is dict and (fault := _fault(value, 1)):
        field = next(name for name, member in value.items() if _fault([member], 1))
        raise bad_json(field, fault, "send it flatter, or as a string")
    return value


def _fault(value: dict[str, Any] | list[Any], depth: int) -> str:
    """What cannot be kept of it; empty where nothing is wrong."""
    if depth > MAX_DEPTH:
        return f"is nested deeper than {MAX_DEPTH} levels"
    members: Any = value.values() if type(value) is dict else value
    for each in members:
        kind = type(each)
        if kind is str:
            continue
        if kind is dict or kind is list:
            if fault := _fault(each, depth + 1):
                return fault
        elif kind is int:
            if not -_MAX_INTEGER < each < _MAX_INTEGER:
                return "holds an integer of more than 64 bits"
        elif kind is float and not math.isfinite(each):
            return "holds a number that is too large to be read"
    return ""


def _reason(text: bytes, error: ValueError) -> str:
    try:
        strictjson.parse(text)
    except strictjson.Doubtful as refused:
        return refused.detail
    return str(error)  # the two read alike, so this is never reached


def _several(texts: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    index = -1
    for index, text in enumerate(texts):
        if index == MAX_EVENTS:
            raise _too_many()
        yield index, text
    if index < 0:
        raise invalid("", "the request holds no event", "send at least one")


def _elements(text: bytes) -> Iterator[bytes]:
    try:
        if len(_shapes_of(text)) > MAX_EVENTS:
            raise _too_many()
        yield from map(bytes, _elements_of(text))
    except msgspec.ValidationError as error:
        found, missing = _AT.search(str(error)), _MISSING.search(str(error))
        if missing:
            name = missing[1]
            fault = invalid(name, "is missing", f"send `{name}`")
        else:
            fault = invalid("", "an event must be a JSON object", "send its members")
        raise (fault.within(int(found[1])) if found else fault) from None
    except (msgspec.DecodeError, RecursionError):
        raise _broken(text) from None


def _broken(text: bytes) -> Refused:
    """What is wrong with an array that is not JSON, and with which of its events; slow."""
    around = text.decode("utf-8", "surrogateescape")
    end, index = 1, 0
    while start := _START.search(around, end):
        if start[0] != "{":
            break
        if index == MAX_EVENTS:
            return _too_many()
        end = _end_of(around, start.start())
        if not end:
            return bad_json("", "is not JSON, or too large").within(index)
        try:
            value_of(around[start.start() : end].encode("utf-8", "surrogateescape"))
        except Refused as error:
            return error.within(index)
        index += 1
    return bad_json("", "the array is not JSON (its commas, or its end)")


def _end_of(around: str, start: int) -> int:
    """Where the object that begins there ends; 0 where it does not, or is too large to look at."""
    for window in _WINDOWS:  # so that no more than one event is ever built
        try:
            return start + _lenient(around[start : start + window])[1]
        except (ValueError, RecursionError):
            continue
    return 0


def _too_many() -> Refused:
    return too_large(f"more than {MAX_EVENTS} events", "send them in several requests")

"""One JSON document in strict UTF-8, or the reason why not (RFC 8259, RFC 7493).

jiter parses and refuses duplicate keys, lone surrogates and bad UTF-8; what it
lets pass (deep nesting, numbers that no double holds) is refused here.
"""

import math
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import jiter

from extauthz.core.reasons import Reason

MAX_DEPTH = 64
MAX_NUMBER_DIGITS = 100  # in a row; a double needs 17, the largest exact integer 309

# Where no quote is escaped; without its end too: hostile quotes cost one pass and no memory.
_STRING = re.compile(rb'"[^"]*"?')
# Every digit (or point) as 0, every exponent's letter as e, no sign: a suspect number is found so.
_DIGITS, _SIGNLESS = bytes.maketrans(b"123456789.E", b"0000000000e"), b"+-"
_LONG = b"0" * (MAX_NUMBER_DIGITS + 1)
_NUMBER = re.compile(rb"-?[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?")
_NOT_A_NUMBER = re.compile(rb"\b(?:NaN|Infinity)\b")
_SIGNS = bytes.maketrans(b"{[}]", b"\x01\x01\xff\xff")  # +1 and -1, as signed bytes
_NOT_BRACKETS = bytes(set(range(256)) - set(b'{[}]"'))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a stranger's document may hold; each costs memory and time.

    Args:
        containers: objects and lists, all counted.
        members: members of objects, all counted.
        elements: commas, those of objects too: what lists hold is as many, and one more each.
    """

    containers: int
    members: int
    elements: int


class Doubtful(Exception):
    """A document or header that servers may read differently; the gate does not read it at all.

    Args:
        reason: code for the decision.
        detail: what is wrong, without quoting the document.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def parse(body: bytes, limits: Limits | None = None) -> Any:
    """Parse `body`.

    Args:
        limits: None for documents of our own.

    Raises:
        Doubtful: with one reason code per kind of doubt.
    """
    bare = _check_counts(body, limits) if limits and len(body) > limits.members else b""
    try:
        value = jiter.from_json(
            body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys"
        )
    except ValueError as error:
        raise _classify(body, str(error)) from None
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        _check_depth(body)
    digits = body.translate(_DIGITS, _SIGNLESS)
    if b"e000" in digits or _LONG in digits:
        _check_numbers(bare or _without_strings(body))
    return value


def _check_counts(body: bytes, limits: Limits) -> bytes:
    """Count what it holds, before any of it is made; what stands in strings does not count.

    Returns:
        The body without its strings, where they had to be looked at; else nothing.
    """
    if _is_within(body, limits):
        return b""
    # A string is a member's name, or a value in its place: so many cannot be within the limits.
    # Counted first, and without looking at each: the next step does.
    strings = (body.count(b'"') - body.replace(rb"\\", b"").count(rb"\"")) // 2
    bare = b"" if strings > _most_strings(limits) else _without_strings(body)
    if bare.count(b"{") + bare.count(b"[") > limits.containers:
        raise Doubtful(
            Reason.TOO_MANY_CONTAINERS, f"more than {limits.containers} objects and lists"
        )
    if not bare or not _is_within(bare, limits):
        raise Doubtful(
            Reason.TOO_MANY_MEMBERS,
            f"more than {limits.members} members, or more than {limits.elements} elements",
        )
    return bare


def _is_within(text: bytes, limits: Limits) -> bool:
    return (
        text.count(b"{") + text.count(b"[") <= limits.containers
        and text.count(b":") <= limits.members
        and text.count(b",") <= limits.elements
    )


def _most_strings(limits: Limits) -> int:
    return limits.members + limits.elements + limits.containers + 1


def _check_depth(body: bytes) -> None:
    """Add up the brackets: one pass however they nest, no recursion, all of it in C.

    Few strings hold brackets.
    """
    rest = _without_escapes(body).translate(_SIGNS, _NOT_BRACKETS)
    signs = _STRING.sub(b"", rest.replace(b'""', b""))
    if max(accumulate(memoryview(signs).cast("b")), default=0) > MAX_DEPTH:
        raise Doubtful(Reason.NESTING_TOO_DEEP, f"nested deeper than {MAX_DEPTH} levels")


def _without_escapes(body: bytes) -> bytes:
    """So that every quote begins or ends a string."""
    return body.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in body else body


def _without_strings(body: bytes) -> bytes:
    return _STRING.sub(b" ", _without_escapes(body))


def _check_numbers(bare: bytes) -> None:
    numbers = _NUMBER.findall(bare)
    longest = max(map(len, numbers), default=0)
    if longest > MAX_NUMBER_DIGITS or any(map(math.isinf, map(float, numbers))):
        raise Doubtful(Reason.NUMBER_OUT_OF_RANGE, "a number is too large to be read exactly")


def _classify(body: bytes, error: str) -> Doubtful:
    """The reason for a document that jiter refused; only this slow path looks so closely."""
    where = error.rpartition(" at ")[2]
    if "duplicate key" in error:
        return Doubtful(
            Reason.DUPLICATE_KEY, f"the same key stands twice in one object, at {where}"
        )
    if "recursion limit" in error:
        return Doubtful(Reason.NESTING_TOO_DEEP, f"nested deeper than {MAX_DEPTH} levels")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return Doubtful(Reason.INVALID_ENCODING, "the body is not valid UTF-8")
    if "surrogate" in error or "hex escape" in error:
        return Doubtful(Reason.INVALID_ENCODING, f"half a surrogate pair, at {where}")
    if "\x00" in text or text.startswith("\ufeff"):
        return Doubtful(Reason.INVALID_ENCODING, "the body must be UTF-8 without a byte order mark")
    if "number out of range" in error or _NOT_A_NUMBER.search(_without_strings(body)):
        return Doubtful(Reason.NUMBER_OUT_OF_RANGE, "a number is too large or not a JSON number")
    if not body.strip():
        return Doubtful(Reason.MALFORMED_JSON, "the body is empty")
    return Doubtful(Reason.MALFORMED_JSON, f"not one JSON document, at {where}")

"""One JSON document in strict UTF-8, or the reason why not (RFC 8259, RFC 7493).

jiter parses and refuses duplicate keys, lone surrogates and bad UTF-8; what it
lets pass (deep nesting, numbers that no double holds) is refused here.
"""

import math
import re
from itertools import accumulate
from typing import Any

import jiter

from extauthz.core.reasons import Reason

MAX_DEPTH = 64
MAX_NUMBER_DIGITS = 100  # in a row; a double needs 17, the largest exact integer 309

# Possessive, and without its end too: hostile quotes cost one pass and no memory.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+\\?+"?+', re.DOTALL)
# Every digit (or point) as 0, every exponent's letter as e, no sign: a suspect number is found so.
_DIGITS, _SIGNLESS = bytes.maketrans(b"123456789.E", b"0000000000e"), b"+-"
_LONG = b"0" * (MAX_NUMBER_DIGITS + 1)
_NUMBER = re.compile(rb"-?[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?")
_NOT_A_NUMBER = re.compile(rb"\b(?:NaN|Infinity)\b")
_SIGNS = bytes.maketrans(b"{[}]", b"\x01\x01\xff\xff")  # +1 and -1, as signed bytes
_NOT_BRACKETS = bytes(set(range(256)) - set(b'{[}]"'))
_QUOTED = re.compile(rb'"[^"]*"')


class Doubtful(Exception):
    """A document or header that servers may read differently; the gate does not read it at all.

    Args:
        reason: code for the decision.
        detail: what is wrong, without quoting the document.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def parse(body: bytes, most_containers: int | None = None) -> Any:
    """Parse `body`.

    Args:
        most_containers: objects and lists, all counted, that a stranger's document may hold;
            each costs memory and time. None for documents of our own.

    Raises:
        Doubtful: with one reason code per kind of doubt.
    """
    containers = body.count(b"{") + body.count(b"[")
    if most_containers is not None and containers > most_containers:
        _check_containers(body, most_containers)
    try:
        value = jiter.from_json(
            body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys"
        )
    except ValueError as error:
        raise _classify(body, str(error)) from None
    if containers > MAX_DEPTH:
        _check_depth(body)
    digits = body.translate(_DIGITS, _SIGNLESS)
    if b"e000" in digits or _LONG in digits:
        _check_numbers(body)
    return value


def _check_containers(body: bytes, most: int) -> None:
    """Count again without the strings, whose brackets open nothing."""
    bare = _STRING.sub(b"", body)
    if bare.count(b"{") + bare.count(b"[") > most:
        raise Doubtful(Reason.TOO_MANY_CONTAINERS, f"more than {most} objects and lists")


def _check_depth(body: bytes) -> None:
    """Add up the brackets: one pass however they nest, no recursion, all of it in C.

    Without escaped quotes every quote begins or ends a string, and few strings hold brackets.
    """
    rest = body.replace(rb"\\", b"").replace(rb"\"", b"").translate(_SIGNS, _NOT_BRACKETS)
    signs = _QUOTED.sub(b"", rest.replace(b'""', b""))
    if max(accumulate(memoryview(signs).cast("b")), default=0) > MAX_DEPTH:
        raise Doubtful(Reason.NESTING_TOO_DEEP, f"nested deeper than {MAX_DEPTH} levels")


def _check_numbers(body: bytes) -> None:
    for number in _NUMBER.findall(_STRING.sub(b" ", body)):
        if len(number) > MAX_NUMBER_DIGITS or math.isinf(float(number)):
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
    if "number out of range" in error or _NOT_A_NUMBER.search(_STRING.sub(b" ", body)):
        return Doubtful(Reason.NUMBER_OUT_OF_RANGE, "a number is too large or not a JSON number")
    if not body.strip():
        return Doubtful(Reason.MALFORMED_JSON, "the body is empty")
    return Doubtful(Reason.MALFORMED_JSON, f"not one JSON document, at {where}")

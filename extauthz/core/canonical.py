"""Canonical JSON and the digests made of it."""

import hashlib
import hmac
from typing import Any

import orjson


def canonical(value: object) -> bytes:
    """Compact JSON with sorted keys; equal values give equal bytes."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # integers beyond 64 bits
        return orjson.dumps(_spelled(value), option=orjson.OPT_SORT_KEYS)


def _spelled(value: Any) -> Any:
    """The same with large integers as text that is JSON already."""
    if isinstance(value, dict):
        return {name: _spelled(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_spelled(element) for element in value]
    if type(value) is int and not -(2**63) <= value < 2**64:
        return orjson.Fragment(str(value))
    return value


def digest(data: bytes | bytearray, more: bytes = b"") -> str:
    """SHA-256 of both parts in a row, written `sha256:<hex>`."""
    found = hashlib.sha256(data)
    if more:
        found.update(more)
    return "sha256:" + found.hexdigest()


def keyed(found: str, key: bytes) -> str:
    """A digest that only who has the key can compare with a guess: `hmac-sha256:<hex>`."""
    return "hmac-sha256:" + hmac.digest(key, found.encode(), "sha256").hex()

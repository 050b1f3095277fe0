"""Canonical JSON and the digests made of it."""

import hashlib
import json

import orjson


def canonical(value: object) -> bytes:
    """Compact JSON with sorted keys; equal values give equal bytes."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # integers beyond 64 bits
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode()


def digest(data: bytes | bytearray, more: bytes = b"") -> str:
    """SHA-256 of both parts in a row, written `sha256:<hex>`."""
    found = hashlib.sha256(data)
    if more:
        found.update(more)
    return "sha256:" + found.hexdigest()

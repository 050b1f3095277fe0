"""Cursors as clients hold them: opaque, and refused when anything of them was changed."""

import base64
import binascii
import hashlib
import struct
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from backend.api.parameters import Parameter
from backend.api.refusals import bad_parameter
from backend.queries import Cursor

VERSION: Final = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAYOUT: Final = struct.Struct(">Bq16s")  # version, milliseconds since the epoch, event id
_SUM_BYTES: Final = 4
_PERSON: Final = b"events-cursor"


def written(cursor: Cursor) -> str:
    """Letters, digits, `-` and `_`."""
    ms = (cursor.event_time - _EPOCH) // timedelta(milliseconds=1)
    body = _LAYOUT.pack(VERSION, ms, UUID(cursor.event_id).bytes)
    return base64.urlsafe_b64encode(body + _sum(body)).decode().rstrip("=")


def _read(text: str, _now: datetime) -> Cursor | None:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        body, found = raw[:-_SUM_BYTES], raw[-_SUM_BYTES:]
        version, ms, event_id = _LAYOUT.unpack(body)
        cursor = Cursor(_EPOCH + timedelta(milliseconds=ms), str(UUID(bytes=event_id)))
        # Written again it must be the same: base64 has several spellings of one value.
        if version == VERSION and found == _sum(body) and written(cursor) == text:
            return cursor
    except (ValueError, binascii.Error, struct.error, OverflowError):
        pass
    problem = f"`{text[:64]}` is no cursor of this version, or not a whole one"
    raise bad_parameter("cursor", problem, "take `next_cursor` as it came, or begin without one")


def _sum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_SUM_BYTES, person=_PERSON).digest()


CURSOR: Final[Parameter[Cursor | None]] = Parameter(
    "cursor",
    _read,
    {"type": "string", "maxLength": 64},
    "Where the page begins: `next_cursor` of the one before.",
    None,
)

"""Request bodies: read and inflated within bounds of size, time and memory."""

import asyncio
import threading
import zlib
from collections.abc import Mapping
from typing import Final

from aiohttp import web
from backports import zstd

from backend.ingest.refusals import bad_encoding, too_large, unsupported
from extauthz.core.errors import Busy

READ_SECONDS: Final = 30.0  # for a whole body
ENCODINGS: Final = ("gzip", "zstd")
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZSTD: Final[Mapping[int, int]] = {
    zstd.DecompressionParameter.window_log_max: 23
}  # 8 MiB (RFC 9659)
_JSON: Final = "application/json"
_NDJSON: Final = frozenset({"application/x-ndjson", "application/ndjson"})


class Room:
    """The memory that all requests together may hold. Used from any thread.

    Args:
        most_bytes: beyond it requests are answered 503.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most, self._lock = most_bytes, threading.Lock()
        self.held_bytes = 0

    def take(self, size: int) -> None:
        """Raises: Busy."""
        with self._lock:
            if self.held_bytes + size > self._most:
                raise Busy("too many events are being taken; send them again later")
            self.held_bytes += size

    def give_back(self, size: int) -> None:
        with self._lock:
            self.held_bytes -= size


class Hold:
    """What one request holds of a room."""

    def __init__(self, room: Room) -> None:
        self._room, self._size = room, 0

    def grow(self, size: int) -> None:
        """Raises: Busy."""
        self._room.take(size)
        self._size += size

    def shrink(self, size: int) -> None:
        self._room.give_back(size)
        self._size -= size

    def release(self) -> None:
        """Give all of it back."""
        self.shrink(self._size)


def is_lines(request: web.Request) -> bool:
    """Whether the body is NDJSON; without a type it counts as JSON.

    Raises:
        Refused: it is neither.
    """
    if "Content-Type" not in request.headers:
        return False
    kind = request.content_type
    if kind in _NDJSON:
        return True
    if kind == _JSON or kind.endswith("+json"):
        return False
    raise unsupported("Content-Type", kind, f"send {_JSON} or application/x-ndjson")


def encoding_of(request: web.Request) -> str:
    """The body's encoding; empty where it has none.

    Raises:
        Refused: one that is not read here, or several.
    """
    named = ", ".join(request.headers.getall("Content-Encoding", [])).strip().lower()
    name = {"identity": "", "x-gzip": "gzip"}.get(named, named)
    if name and name not in ENCODINGS:
        raise unsupported("Content-Encoding", named, f"send {' or '.join(ENCODINGS)}, or none")
    return name


async def read_body(request: web.Request, hold: Hold, most: int) -> bytes:
    """The body as it came.

    Args:
        hold: grows with it.
        most: bytes.

    Raises:
        Refused: it is too large, or ends before its end.
        Busy: there is no room for it.
        HTTPRequestTimeout: it does not come.
    """
    if (request.content_length or 0) > most:
        raise _too_large(most)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.content.iter_any():
                size += len(chunk)
                if size > most:
                    raise _too_large(most)
                hold.grow(len(chunk))
                chunks.append(chunk)
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    return b"".join(chunks)


def inflate(body: bytes, encoding: str, most: int) -> bytes:
    """The body without its encoding, which is one gzip member or one zstd frame.

    Args:
        encoding: one of `ENCODINGS`.
        most: bytes; what inflates to more costs no more memory than this.

    Raises:
        Refused: it is not in this encoding, or too large.
    """
    stream = zlib.decompressobj(_GZIP) if encoding == "gzip" else zstd.ZstdDecompressor(None, _ZSTD)
    try:
        inflated = stream.decompress(body, most + 1)
    except (zlib.error, zstd.ZstdError):
        raise bad_encoding(f"the body is not {encoding}") from None
    if len(inflated) > most:
        raise _too_large(most)
    if not stream.eof:
        raise bad_encoding(f"the {encoding} stream is cut short")
    if stream.unused_data:
        raise bad_encoding(f"something follows the {encoding} stream")
    return inflated


def _too_large(most: int) -> Exception:
    return too_large(f"the request exceeds {most} bytes", "send fewer events at a time")

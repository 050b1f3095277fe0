"""The journal: calls on disk before their answer leaves, in append-only files.

A call needs the journal only if the process dies: then the next start reads it. As soon as
all calls of a file are sent or in the spool, the file goes. Synchronous and for one thread.
"""

import errno
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from extauthz.emitter.mark import sync_folder

_MAGIC = b"SNTJRNL1"
_HEAD_BYTES = 24  # magic, gateway_start
_RECORD = struct.Struct("<IIQ")  # length of the body, checksum of sequence and body, sequence
_SEGMENT_BYTES = 8 * 1024 * 1024


def to_record(sequence: int, body: bytes) -> bytes:
    """An event as it lies in the journal."""
    return _RECORD.pack(len(body), _checksum(sequence, body), sequence) + body


@dataclass(slots=True, eq=False)
class _Segment:
    """One file.

    Args:
        path, descriptor: the file.
        allocated: its bytes on disk; zeros up to there.
        size: what has been written.
        last: the last sequence in it.
    """

    path: Path
    descriptor: int
    allocated: int
    size: int = _HEAD_BYTES
    last: int = 0


class Journal:
    """The files of one start.

    Args:
        folder: where they lie; those of earlier starts are gone (`remove_journal`).
        gateway_start: of this start.
        max_bytes: bound of all files together.

    Attributes:
        bytes: size of all files.
    """

    def __init__(self, folder: Path, gateway_start: str, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._segment_bytes = min(_SEGMENT_BYTES, max_bytes // 8)
        self._head = _MAGIC + UUID(gateway_start).bytes
        self._open: _Segment | None = None
        self._full: list[_Segment] = []
        self._count = 0
        self.bytes = 0

    def append(self, records: bytes, last: int) -> None:
        """Write records, the last of which has sequence `last`; on disk when this returns.

        Raises:
            OSError: the disk is full or failing, or the bound is reached. None of them count.
        """
        segment = self._open = self._open or self._begin()
        size = segment.size + len(records)
        grown = max(size - segment.allocated, 0)
        self._check_room(grown)
        try:
            _write(segment.descriptor, records, segment.size)
            os.fdatasync(segment.descriptor)
        except OSError:
            self._give_up(segment)
            raise
        segment.size, segment.last = size, last
        segment.allocated += grown
        self.bytes += grown
        if size >= self._segment_bytes:
            self._end(segment)

    def can_trim(self, below: int) -> bool:
        """Whether a file holds nothing but sequences under `below`; for any thread."""
        full = self._full
        return bool(full) and full[0].last < below

    def trim(self, below: int) -> None:
        """Remove files that hold nothing but sequences under `below`."""
        while self.can_trim(below):
            segment = self._full[0]
            segment.path.unlink(missing_ok=True)
            self.bytes -= segment.allocated
            del self._full[0]

    def close(self) -> None:
        """Close the files. What lies in them stays for the next start, unless trimmed."""
        if self._open:
            self._end(self._open)

    def _begin(self) -> _Segment:
        # Filled at once: a write into blocks that exist changes no more than these.
        self._check_room(self._segment_bytes)
        self._count += 1
        path = self._folder / f"journal.{self._count:08}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        segment = _Segment(path, os.open(path, flags, 0o600), self._segment_bytes)
        try:
            _write(segment.descriptor, self._head.ljust(self._segment_bytes, b"\0"), 0)
            os.fdatasync(segment.descriptor)
            sync_folder(self._folder)
        except OSError:
            os.close(segment.descriptor)
            path.unlink(missing_ok=True)
            raise
        self.bytes += segment.allocated
        return segment

    def _check_room(self, more: int) -> None:
        if self.bytes + more > self._max_bytes:
            raise OSError(errno.ENOSPC, f"the journal has its `{self._max_bytes}` bytes")

    def _end(self, segment: _Segment) -> None:
        self._open = None
        os.close(segment.descriptor)
        self._full.append(segment)

    def _give_up(self, segment: _Segment) -> None:
        """After a failed write nobody knows what the file holds: it is cut, and not used again.

        Its calls are answered as not recorded; left in the file, a later start would tell
        of them as decided.
        """
        with suppress(OSError):
            os.ftruncate(segment.descriptor, segment.size)
            os.fdatasync(segment.descriptor)
        self._end(segment)


@dataclass(frozen=True, slots=True)
class Leftover:
    """What an earlier start left.

    Args:
        gateway_start: of that start.
        events: (sequence, body) of each, ascending.
    """

    gateway_start: str
    events: Sequence[tuple[int, bytes]]


def read_journal(folder: Path) -> list[Leftover]:
    """What earlier starts left. A file with a torn head holds nothing.

    Raises:
        OSError: a file cannot be read.
    """
    found: dict[str, list[tuple[int, bytes]]] = {}
    for path in sorted(folder.glob("journal.*")):
        content = path.read_bytes()
        if len(content) >= _HEAD_BYTES and content.startswith(_MAGIC):
            gateway_start = str(UUID(bytes=content[len(_MAGIC) : _HEAD_BYTES]))
            found.setdefault(gateway_start, []).extend(_records(content))
    return [Leftover(gateway_start, events) for gateway_start, events in found.items()]


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The records of a file, up to the first that is torn."""
    place = _HEAD_BYTES
    while place + _RECORD.size <= len(content):
        length, checksum, sequence = _RECORD.unpack_from(content, place)
        place += _RECORD.size
        body = content[place : place + length]
        if not body or len(body) < length or checksum != _checksum(sequence, body):
            return
        yield sequence, body
        place += length


def remove_journal(folder: Path) -> None:
    """Remove what earlier starts left: it is in the spool."""
    for path in folder.glob("journal.*"):
        path.unlink()


def _checksum(sequence: int, body: bytes) -> int:
    return zlib.crc32(body, sequence & 0xFFFFFFFF)


def _write(descriptor: int, content: bytes, place: int) -> None:
    view = memoryview(content)
    while view:
        count = os.pwrite(descriptor, view, place)
        view, place = view[count:], place + count

"""Envoy's file of requests without a decision, read from a stored position.

Synchronous; nothing here knows of events or HTTP. Envoy appends and never looks back, so
what has been read is given back to the disk by punching a hole: offsets stay, nothing has to
be renamed or reopened, and no line can fall between two files.
"""

import ctypes
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from extauthz.undecided.position import Position

_log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 64 * 1024  # read at once; a longer line counts as unreadable
_PUNCH_BYTES: Final = 1024 * 1024  # given back at once
_KEEP_SIZE_AND_PUNCH: Final = 0x01 | 0x02  # fallocate(2)
# Every line is one flat JSON object, so `{"name":` stands at its beginning alone: inside of a
# string the quote is escaped, and behind one comes no letter (a caller's string may end in `{`).
# A torn line therefore cannot swallow the one that was written after it.
_BEGINNING: Final = re.compile(rb'(?=\{"[a-z_]+":)')


@dataclass(frozen=True, slots=True)
class Record:
    """One line, or a torn one.

    Args:
        offset: where it begins.
        body: its bytes, without the line's end.
    """

    offset: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """What was read at once.

    Args:
        records: in order.
        offset: behind them.
        tail, digest: as in `Position`.
    """

    records: tuple[Record, ...]
    offset: int
    tail: int
    digest: str


class Replaced(Exception):
    """Another file stands where the one of the position stood.

    Args:
        inode: of the file that stands there now.
        finished: whether all of the former one had been read.
    """

    def __init__(self, inode: int, *, finished: bool) -> None:
        self.inode, self.finished = inode, finished
        super().__init__("the file was replaced")


class UndecidedLog:
    """The file, held open.

    Args:
        path: where Envoy writes it; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._checked = -1  # size at which the position was last seen to fit
        self._punched = 0
        self._may_punch = True
        self.inode = 0

    def size(self) -> int:
        """Its length; 0 where there is none."""
        return os.fstat(self._file).st_size if self._open() else 0

    def disk_bytes(self) -> int:
        """What it takes of the disk; holes take nothing."""
        try:
            return self._path.stat().st_blocks * 512
        except OSError:
            return 0

    def read(self, position: Position) -> Chunk | None:
        """Read whole lines behind the position; None where there are none.

        Raises:
            Replaced: the file is not the one that the position is about.
            OSError: it cannot be read.
        """
        if not self._open():
            return None
        self._check(position)
        start = position.offset if position.digest else self._first_data()
        data = os.pread(self._file, CHUNK_BYTES, start)
        whole = data.rfind(b"\n") + 1
        if not whole and len(data) < CHUNK_BYTES:
            successor = self._successor()
            if not successor:
                return None
            # Envoy has left this file: what stands there now is all.
            data = os.pread(self._file, CHUNK_BYTES, start)
            if not data:
                self.close()
                raise Replaced(successor, finished=True)
            whole = data.rfind(b"\n") + 1 or len(data)
        data = data[: whole or len(data)]
        records = tuple(_records(data, start))
        tail = records[-1].offset if records else start
        kept = data[tail - start :]
        return Chunk(records, start + len(data), tail, hashlib.sha256(kept).hexdigest())

    def release(self, position: Position) -> None:
        """Give back to the disk what lies before the position's last line, where that is possible.

        Never from a file in which no line could be read: it may be somebody else's.
        """
        if self._file < 0 or not self._may_punch or not position.at:
            return
        if position.tail < self._punched + _PUNCH_BYTES:
            return
        if fault := _punch(self._file, position.tail):
            self._keep(fault)
        self._punched = position.tail

    def _keep(self, fault: str) -> None:
        if self._may_punch:
            self._may_punch = False
            told = {"path": str(self._path), "error": fault}
            _log.warning("the undecided log only grows: lines cannot be removed", extra=told)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = self._checked = -1
        self._punched = 0

    def _open(self) -> bool:
        if self._file >= 0:
            return True
        try:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            except PermissionError:
                self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                self._keep("it may not be written")
        except FileNotFoundError:
            return False
        self.inode = os.fstat(self._file).st_ino
        return True

    def _check(self, position: Position) -> None:
        """The position's last line must stand where it stood, whatever the inode says."""
        size = os.fstat(self._file).st_size
        if size == self._checked:
            return
        kept = os.pread(self._file, position.offset - position.tail, position.tail)
        is_same = size >= position.offset and (
            not position.digest or hashlib.sha256(kept).hexdigest() == position.digest
        )
        if not is_same:
            inode = self.inode
            self.close()
            raise Replaced(inode, finished=False)
        self._checked = size

    def _first_data(self) -> int:
        """Behind the hole, where an earlier reader left one."""
        try:
            return os.lseek(self._file, 0, os.SEEK_DATA)
        except OSError:  # empty, or a filesystem without holes
            return 0

    def _successor(self) -> int:
        """The inode of another file at the path, once Envoy writes there; else 0."""
        try:
            found = self._path.stat()
        except OSError:
            return 0
        return found.st_ino if found.st_ino != self.inode and found.st_size else 0


def _records(data: bytes, offset: int) -> Iterator[Record]:
    """Lines and torn lines; NULs stand where a hole or a power cut left them."""
    for line in data.split(b"\n"):
        for piece in _BEGINNING.split(line):
            body = piece.lstrip(b"\0")
            if body.strip():
                yield Record(offset + len(piece) - len(body), body)
            offset += len(piece)
        offset += 1


def _punch(file: int, end: int) -> str:
    """Free the first `end` bytes of a file without changing its size; say why not, or nothing."""
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    except AttributeError:
        return "this system cannot punch holes"
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while fallocate(file, _KEEP_SIZE_AND_PUNCH, 0, end):
        number = ctypes.get_errno()
        if number != 4:  # EINTR
            return os.strerror(number)
    return ""

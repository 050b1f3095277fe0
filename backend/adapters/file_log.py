"""An exported file of envelopes, one a line, as a log that can only be read.

Its offsets are the numbers of its lines, from 1; its topic's id is made of its whole content
(SHA-256, a second or two a gigabyte), so that a replay of the same file goes on where one
ended, and a changed file is another log. Groups commit nothing: the store knows its positions.
"""

import asyncio
import hashlib
import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import BinaryIO, Final
from uuid import NAMESPACE_URL, UUID, uuid5

from backend.ports.event_log import (
    Assignment,
    DeadLetter,
    Message,
    Ownership,
    Position,
    Record,
    SetAside,
)
from extauthz.core.errors import Invalid, NotFound, Retryable

PARTITION: Final = 0
FETCH_BYTES: Final = 8 << 20  # a fetch ends past this many bytes
LINE_BYTES: Final = 16 << 20


class FileLog:
    """A file of newline-delimited JSON; it must not change while it is read.

    Args:
        path: the file.
    """

    is_shared: Final = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.topic_id = UUID(int=0)  # made by `start`
        self.events = 0  # lines that are not blank

    async def start(self) -> None:
        try:
            digest, self.events = await asyncio.to_thread(self._look)
        except OSError as error:
            problem = f"`{self.path}` cannot be read ({error.strerror})"
            raise Invalid("", problem, "name an exported file") from error
        self.topic_id = uuid5(NAMESPACE_URL, f"sha256:{digest}")

    async def stop(self) -> None:
        """Nothing is open."""

    async def append(self, messages: Sequence[Message]) -> None:
        """Raises: Invalid."""
        raise self._read_only()

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Raises: Invalid."""
        raise self._read_only()

    async def dead_letters(self, limit: int, after: Position | None = None) -> Sequence[SetAside]:
        return []

    async def dead_letter_at(self, position: Position) -> SetAside:
        raise NotFound("a file keeps no dead letters")

    async def retry(self, position: Position) -> None:
        raise NotFound("a file keeps no dead letters")

    async def drop(self, position: Position) -> None:
        raise NotFound("a file keeps no dead letters")

    async def ping(self) -> None:
        if not self.path.is_file():
            raise Retryable(f"`{self.path}` is gone; put it back")

    def consumer(self, group: str) -> "FileConsumer":
        return FileConsumer(self)

    def _look(self) -> tuple[str, int]:
        """Digest of the content, and how many lines are not blank."""
        digest, events = hashlib.sha256(), 0
        with self.path.open("rb") as file:
            for number in count(1):
                line = file.readline(LINE_BYTES)
                if not line:
                    return digest.hexdigest(), events
                if len(line) == LINE_BYTES:
                    problem = f"line {number} of `{self.path}` is longer than 16 MiB"
                    raise Invalid("", problem, "name a file with one event a line")
                digest.update(line)
                events += not line.isspace()
        raise AssertionError

    def _read_only(self) -> Invalid:
        return Invalid("", f"`{self.path}` can only be read", "append to another log")


class FileConsumer:
    """Reads the file from its first line, whatever its group."""

    def __init__(self, log: FileLog) -> None:
        self._log = log
        self._file: BinaryIO | None = None
        self._line = self._left = 0  # lines read, events left
        self._committed = 0  # a line
        self._blank: list[int] = []  # lines read that hold no event
        self._ownership: Ownership | None = None

    async def start(self, ownership: Ownership) -> None:
        self._file = await asyncio.to_thread(self._log.path.open, "rb")
        self._left, self._ownership = self._log.events, ownership
        await ownership.assigned(Assignment(self._log.topic_id, PARTITION, 0))

    async def fetch(self, most: int, wait_seconds: float) -> Sequence[Record]:
        records = await asyncio.to_thread(self._next_records, most)
        if not records:
            await asyncio.sleep(wait_seconds)  # nothing comes any more
        return records

    async def confirm(self) -> float:
        return math.inf  # there is one reader

    async def commit(self, positions: Sequence[Position]) -> None:
        self._committed = max(self._committed, *(each.offset for each in positions), 0)

    async def lag(self) -> int:
        blank = len(self._blank) - bisect_right(self._blank, self._committed)
        return self._left + self._line - self._committed - blank

    async def stop(self) -> None:
        ownership, self._ownership = self._ownership, None
        if ownership is not None:
            await ownership.revoked()
        if self._file is not None:
            self._file.close()

    def _next_records(self, most: int) -> list[Record]:
        records: list[Record] = []
        size = 0
        while len(records) < min(most, self._left) and size < FETCH_BYTES:
            line = self._file.readline(LINE_BYTES) if self._file is not None else b""
            if not line:
                break  # it became shorter; what is missing stays in the lag
            self._line += 1
            size += len(line)
            if line.isspace():
                self._blank.append(self._line)
                continue
            position = Position(self._log.topic_id, PARTITION, self._line)
            records.append(Record(position, line.rstrip(b"\r\n")))
        self._left -= len(records)
        return records

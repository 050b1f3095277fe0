"""Worst moments, hit from outside: stop a process, look at what it has on disk, go on or kill.

Nothing in the product helps; what was seen while the process stood still is the proof.
"""

import asyncio
import os
import resource
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import BinaryIO, TypeVar

import psutil

T = TypeVar("T")
FULL, EMPTY = 0, -1
PAGE_AND_A_HALF = 6 << 10
_WAL_HEAD, _WAL_FRAME = struct.Struct(">8I"), struct.Struct(">6I")
_JOURNAL_HEAD = 24


def stand_still(pid: int) -> None:
    """SIGSTOP, and wait until every thread stands."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not all(map(_stands, _threads(pid))):
        time.sleep(0.0005)


def go_on(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


async def kill(pid: int) -> None:
    """SIGKILL, and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    await gone(pid)


async def gone(pid: int, seconds: float = 30.0) -> None:
    """Wait until a process has ended; one that nobody has reaped yet counts."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"process {pid} does not end")


async def caught(
    pid: int, seen: Callable[[], T | None], chance: Random, seconds: float = 10.0
) -> T | None:
    """Stop a process again and again until `seen` sees something; then it stands still.

    Returns:
        What was seen; None when it never was, and then the process goes on.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        stand_still(pid)
        if found := seen():
            return found
        go_on(pid)
        await asyncio.sleep(chance.uniform(0.001, 0.012))  # it must get somewhere
    return None


async def torn_append(pid: int, path: Path, seconds: float = 30.0) -> int:
    """Let a process write half of its next transaction to a write-ahead log, and no more.

    Its files may grow no further than that place, so it is there that it can be killed.

    Returns:
        Pages of the transaction that were written.
    """
    log = WriteAheadLog(path)
    stand_still(pid)
    try:
        log.uncommitted()
        _limit(pid, log.end + PAGE_AND_A_HALF)
    finally:
        go_on(pid)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if pages := log.uncommitted():
            return pages
        await asyncio.sleep(0.005)
    raise AssertionError(f"nothing was appended to `{path.name}` within {seconds} s")


@contextmanager
def full_disk(*pids: int) -> Iterator[None]:
    """No file of these processes takes a byte more (a limit of theirs; a quota, as it were)."""
    for pid in pids:
        _limit(pid, FULL)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                _limit(pid, EMPTY)


def _limit(pid: int, most: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, hard))


class WriteAheadLog:
    """A SQLite database's, read as it grows, so that a look costs little.

    Attributes:
        end: offset behind the last transaction that was seen to be whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._salts: list[int] = []
        self.end = _WAL_HEAD.size

    def uncommitted(self) -> int:
        """Pages of a transaction that was begun to be written and is not committed."""
        try:
            with self._path.open("rb") as file:
                return self._count(file)
        except (FileNotFoundError, struct.error):
            return 0

    def _count(self, file: BinaryIO) -> int:
        _, _, page_bytes, _, *salts, _, _ = _WAL_HEAD.unpack(file.read(_WAL_HEAD.size))
        if salts != self._salts:  # begun from its start again
            self._salts, self.end = salts, _WAL_HEAD.size
        place, pages = self.end, 0
        while True:
            file.seek(place)
            frame = file.read(_WAL_FRAME.size)
            if len(frame) < _WAL_FRAME.size:
                return pages
            _, pages_after_commit, *found, _, _ = _WAL_FRAME.unpack(frame)
            if found != salts:  # of an earlier round through the file
                return pages
            place += _WAL_FRAME.size + page_bytes
            pages += 1
            if pages_after_commit:
                self.end, pages = place, 0


def newest_journal(spool: Path) -> str:
    """The name of the newest journal file; empty where there is none."""
    return max((path.name for path in spool.glob("journal.*")), default="")


def fresh_journal(spool: Path, before: str) -> str:
    """A journal file that is newer than `before`, and has no call in it yet."""
    name = newest_journal(spool)
    if name <= before:
        return ""
    with (spool / name).open("rb") as file:
        file.seek(_JOURNAL_HEAD)
        return "" if any(file.read(4)) else name


def inserted(store: Path) -> dict[str, int]:
    """Rows by data part that an insert has brought into the store; merged ones are left out."""
    found = {}
    for count in store.glob("store/*/*/*_0/count.txt"):
        if count.parent.name[:8].isdigit():
            with suppress(OSError, ValueError):
                found[count.parent.name] = int(count.read_text())
    return found


def _threads(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").glob("*"))


def _stands(thread: Path) -> bool:
    try:
        state = (thread / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "tTXZ"

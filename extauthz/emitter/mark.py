"""The mark: sequence counters in a memory-mapped file, which outlive a killed process.

They survive the process, not a power cut: what the kernel had not yet written is gone. So
sequences are reserved ahead, on the disk, a block at a time: after another boot of the machine
they may all have been taken, and the next start says so.
"""

import mmap
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from extauthz.core.errors import Invalid

_MAGIC = b"SNTMARK1"
_SIZE = 4096
# Places of the 8-byte words: magic 0, gateway_start 1 and 2, boot 3 and 4, checksum 5, counters.
_CHECKED_BYTES, _CHECKSUM, _NEXT, _SETTLED, _RESERVED = 40, 5, 6, 7, 8
BLOCK: Final = 20_000  # sequences reserved at once: some seconds of calls
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NO_BOOT = bytes(16)


@dataclass(frozen=True, slots=True)
class MarkReading:
    """What a process left behind.

    Args:
        gateway_start: UUIDv7 of that process's start.
        next_sequence: the sequence that it would have taken next; after another boot of the
            machine the highest that it may have been.
        settled: every sequence below is sent, spooled, or told as a gap.
    """

    gateway_start: str
    next_sequence: int
    settled: int


class Mark:
    """The counters of the running process. Not thread-safe: the event loop owns it."""

    __slots__ = ("_map", "_reserved", "_words", "gateway_start", "next_sequence")

    def __init__(self, path: Path, gateway_start: str, next_sequence: int = 1) -> None:
        """Replace the file at `path` at once; all below `next_sequence` counts as settled.

        Raises:
            OSError: the file cannot be written.
        """
        self.gateway_start = gateway_start
        self.next_sequence = next_sequence
        fresh = path.with_suffix(".new")
        with open(fresh, "wb+", opener=_private) as file:
            file.write(_page(gateway_start, next_sequence))
            file.flush()
            # All blocks exist already: a mapped hole on a full disk would be a SIGBUS.
            os.fsync(file.fileno())
            self._map = mmap.mmap(file.fileno(), _SIZE)
        fresh.replace(path)
        sync_folder(path.parent)
        # A cast view stores a word in one instruction, so that no kill can tear it.
        self._words = memoryview(self._map).cast("Q")
        self._reserved = next_sequence + BLOCK

    def take(self) -> int:
        """Take the next sequence."""
        sequence = self.next_sequence
        if sequence >= self._reserved:  # nobody came to reserve more in time
            with suppress(OSError):  # best effort never refuses; durable has the journal
                self.reserve()
        self.next_sequence = self._words[_NEXT] = sequence + 1
        return sequence

    @property
    def is_short(self) -> bool:
        """Whether it is time to reserve more."""
        return self._reserved - self.next_sequence < BLOCK // 2

    def reserve(self) -> None:
        """Reserve a block from here on; on the disk when this returns. For any thread.

        Raises:
            OSError: the disk does not take it.
        """
        reserved = self.next_sequence + BLOCK
        self._words[_RESERVED] = reserved
        self._map.flush()
        self._reserved = reserved

    @property
    def settled(self) -> int:
        return self._words[_SETTLED]

    def settle(self, below: int) -> None:
        """Note that every sequence under `below` is sent, spooled, or told as a gap."""
        self._words[_SETTLED] = below

    def sync(self) -> None:
        """Bring the counters to the disk; for any thread."""
        self._map.flush()

    def close(self) -> None:
        self._words[_RESERVED] = self.next_sequence  # no more will be taken
        self.sync()
        self._words.release()
        self._map.close()


def read_mark(path: Path) -> MarkReading | None:
    """Read what the previous process left; None where there was none.

    Raises:
        Invalid: the file is torn, foreign, or garbage.
    """
    try:
        page = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Invalid(str(path), f"cannot be read ({error.strerror})") from error
    words = memoryview(page[: len(page) // 8 * 8]).cast("Q")
    if (
        len(page) != _SIZE
        or page[:8] != _MAGIC
        or words[_CHECKSUM] != zlib.crc32(page[:_CHECKED_BYTES])
    ):
        raise Invalid(str(path), "is not a mark of this program")
    if not 1 <= words[_SETTLED] <= words[_NEXT]:
        raise Invalid(str(path), f"settled `{words[_SETTLED]}` lies beyond next `{words[_NEXT]}`")
    end = words[_NEXT]
    if page[24:40] == _NO_BOOT or page[24:40] != _boot():
        end = max(end, words[_RESERVED])
    return MarkReading(str(UUID(bytes=page[8:24])), end, words[_SETTLED])


def _boot() -> bytes:
    """Names the machine's run since it was switched on; zeros where nothing tells."""
    try:
        return UUID(_BOOT.read_text().strip()).bytes
    except (OSError, ValueError):
        return _NO_BOOT


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _page(gateway_start: str, next_sequence: int) -> bytes:
    page = bytearray(_SIZE)
    page[:_CHECKED_BYTES] = _MAGIC + UUID(gateway_start).bytes + _boot()
    words = memoryview(page).cast("Q")
    words[_CHECKSUM] = zlib.crc32(page[:_CHECKED_BYTES])
    words[_NEXT] = words[_SETTLED] = next_sequence
    words[_RESERVED] = next_sequence + BLOCK
    return bytes(page)

"""The mark: sequence counters in a memory-mapped file, which outlive a killed process.

They survive the process, not a power cut: what the kernel had not yet written is gone.
"""

import mmap
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from extauthz.core.errors import Invalid

_MAGIC = b"SNTMARK1"
_SIZE = 4096
# Places of the 8-byte words: magic 0, gateway_start 1 and 2, checksum 3, then the counters.
_NEXT, _SETTLED = 4, 5


@dataclass(frozen=True, slots=True)
class MarkReading:
    """What a process left behind.

    Args:
        gateway_start: UUIDv7 of that process's start.
        next_sequence: the sequence that it would have taken next.
        settled: every sequence below is sent, spooled, or told as a gap.
    """

    gateway_start: str
    next_sequence: int
    settled: int


class Mark:
    """The counters of the running process. Not thread-safe: the event loop owns it."""

    __slots__ = ("_map", "_words", "gateway_start", "next_sequence")

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

    def take(self) -> int:
        """Take the next sequence."""
        sequence = self.next_sequence
        self.next_sequence = self._words[_NEXT] = sequence + 1
        return sequence

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
    if len(page) != _SIZE or page[:8] != _MAGIC or words[3] != zlib.crc32(page[:24]):
        raise Invalid(str(path), "is not a mark of this program")
    if not 1 <= words[_SETTLED] <= words[_NEXT]:
        raise Invalid(str(path), f"settled `{words[_SETTLED]}` lies beyond next `{words[_NEXT]}`")
    return MarkReading(str(UUID(bytes=page[8:24])), words[_NEXT], words[_SETTLED])


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
    page[:24] = _MAGIC + UUID(gateway_start).bytes
    words = memoryview(page).cast("Q")
    words[3] = zlib.crc32(page[:24])
    words[_NEXT] = words[_SETTLED] = next_sequence
    return bytes(page)

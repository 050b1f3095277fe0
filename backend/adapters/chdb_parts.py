"""Whether chDB wrote what it says it wrote, and what is done where it did not.

chDB 26.9 takes no notice of a failed write (ENOSPC, EDQUOT, EFBIG, EIO): inserts and
merges succeed, and their files are short or empty. It asks for room beforehand, but a
disk may fill up meanwhile, and a quota does not show.

- Each inserted part is checked before its insert is said to be done: 12 ms for 10,000
  rows. One that is not whole is dropped.
- A merged part that is not whole stands in the place of others, which stay on disk for
  `old_parts_lifetime` (`schema/0002_parts.sql`). Loading the table, which compares every
  file with its size, takes them again. So merges are looked at every few seconds, whether
  anybody inserts or not, and the table is loaded again at once.
- Then nothing is merged until an insert was whole.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from extauthz.core.errors import Retryable, SentinelError

Ask = Callable[[str], bytes]  # runs a statement, and gives what it answers as JSON lines

RECENT_SECONDS: Final = 900  # parts written before a crash are checked after it
WATCH_SECONDS: Final = 10.0  # between two looks at merges: a fraction of `old_parts_lifetime`

# An empty part only hides what was dropped, or is too old.
_PARTS: Final = f"""
SELECT name, path, partition_id AS partition, min_block_number AS first,
    max_block_number AS last, rows, bytes_on_disk AS bytes,
    level = 0 AND data_version = min_block_number AS is_inserted,
    modification_time > now() - {RECENT_SECONDS} AS is_recent
FROM system.parts
WHERE active AND rows > 0 AND database = currentDatabase() AND table = 'events'
FORMAT JSONEachRow
"""
_CHECK: Final = (
    "CHECK TABLE events PART '{name}' SETTINGS check_query_single_value_result = 0"
    " FORMAT JSONEachRow"
)
_DROP_DETACHED: Final = (
    "ALTER TABLE events DROP DETACHED PART 'broken-on-start_{name}'"
    " SETTINGS allow_drop_detached = 1"
)

_log = logging.getLogger(__name__)


class _Part(msgspec.Struct):
    name: str
    path: str
    partition: str
    first: int
    last: int
    rows: int
    bytes: int
    is_inserted: bool | int
    is_recent: bool | int

    def covers(self, other: "_Part") -> bool:
        return (
            self.partition == other.partition
            and self.first <= other.first
            and other.last <= self.last
        )


class _Checked(msgspec.Struct):
    is_passed: bool | int


_PART_LINES: Final = msgspec.json.Decoder(_Part, strict=False)
_CHECKED_LINES: Final = msgspec.json.Decoder(_Checked, strict=False)


class Parts:
    """The parts of the table of events on disk, checked once each. Threads may share it.

    Args:
        ask: how statements are run, in the database of the table. Raises: SentinelError.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._turn = threading.Lock()
        self._whole: set[str] | None = None
        self._losses = 0  # how often parts were dropped, or the table was loaded again
        self._is_away = False  # the table, to be loaded again
        self._merges = True
        self._closing = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="chdb-merges", daemon=True)

    def start(self) -> None:
        """Look at merges from now on."""
        self._watching.start()

    def close(self) -> None:
        self._closing.set()
        if self._watching.is_alive():
            self._watching.join()

    @contextmanager
    def inserting(self) -> Iterator[None]:
        """Around an insert: it is done when the block ends without an error.

        Raises:
            Retryable: what was inserted may be lost; make room, and insert it again.
        """
        losses = self._losses
        yield
        with self._turn:
            self._check(inserted=True)
            if losses != self._losses:  # perhaps it was dropped by another one's check
                raise Retryable("the event store lost parts meanwhile; make room on its disk")
            if not self._merges:
                self._ask("SYSTEM START MERGES events")
                self._merges = True

    def check(self) -> None:
        """Check what is new. Raises: Retryable: as above."""
        with self._turn:
            self._check(inserted=True)

    def check_merges(self) -> None:
        """Check what was merged. Raises: Retryable: it was not whole; no row is lost."""
        with self._turn:
            self._check(inserted=False)

    def _watch(self) -> None:
        while not self._closing.wait(WATCH_SECONDS):
            try:
                self.check_merges()
            except SentinelError as error:
                _log.warning("the event store is in need", extra={"error": str(error)})

    def _check(self, *, inserted: bool) -> None:
        if self._is_away:
            self._attach()
        parts = _PART_LINES.decode_lines(self._ask(_PARTS))
        if self._whole is None:
            self._whole = {part.name for part in parts if not part.is_recent}
        self._whole &= {part.name for part in parts}
        broken = []
        for part in parts:
            if part.name in self._whole or (part.is_inserted and not inserted):
                continue
            if self._is_whole(part):
                self._whole.add(part.name)
            else:
                broken.append(part)
        if broken:
            self._mend(broken)
            raise Retryable(
                f"the event store could not write {len(broken)} parts in full; make room on its"
                " disk, or keep events for fewer days (EVENT_RETENTION_DAYS)"
            )

    def _is_whole(self, part: _Part) -> bool:
        if not part.is_inserted:  # may be large; what a failed write leaves out, its size tells
            return _is_written(part)
        (checked,) = _CHECKED_LINES.decode_lines(self._ask(_CHECK.format(name=part.name)))
        return bool(checked.is_passed)

    def _mend(self, broken: Sequence[_Part]) -> None:
        """Rows that were stored come first: dropping a part makes the engine tidy up."""
        inserted = {part.name for part in broken if part.is_inserted}
        try:
            self._stop_merges()
            if len(inserted) < len(broken):
                inserted &= self._load_again(broken)
            for name in inserted:
                self._ask(f"ALTER TABLE events DROP PART '{name}'")
        finally:
            self._losses += 1

    def _stop_merges(self) -> None:
        self._merges = False
        self._ask("SYSTEM STOP MERGES events")

    def _load_again(self, broken: Sequence[_Part]) -> set[str]:
        """Load the table, without what is broken. Returns: the names of all its parts."""
        self._is_away = True
        self._ask("DETACH TABLE events SYNC")  # the queries that run end first
        self._attach()
        parts = _PART_LINES.decode_lines(self._ask(_PARTS))
        stayed = {part.name for part in parts}
        for each in broken:
            if each.name in stayed:
                if self._whole is not None and not each.is_inserted:
                    self._whole.add(each.name)  # its rows are whole: an index of it was not
            elif each.is_inserted or each.rows == sum(
                part.rows for part in parts if each.covers(part)
            ):
                self._ask(_DROP_DETACHED.format(name=each.name))
            else:
                _log.error("rows of the event store are lost", extra={"path": each.path})
        return stayed

    def _attach(self) -> None:
        self._ask("ATTACH TABLE IF NOT EXISTS events")
        self._is_away = False
        self._stop_merges()


def _is_written(part: _Part) -> bool:
    written = 0
    for folder, _, names in os.walk(part.path):
        for name in names:
            size = os.path.getsize(os.path.join(folder, name))
            if not size and not name.endswith(".bin"):  # a column of defaults is empty
                return False
            written += size
    return written >= part.bytes

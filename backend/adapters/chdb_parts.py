"""Whether chDB wrote what it says it wrote.

chDB 26.9 takes no notice of a failed write (ENOSPC, EDQUOT, EFBIG, EIO): the insert
succeeds, and its files are short or empty. It asks for room beforehand, but a disk may
fill up meanwhile, and a quota does not show. So each new part is checked before an
insert is said to be done: 12 ms for 10,000 rows.
"""

import os
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from backend.ports.event_store import Damaged
from extauthz.core.errors import Retryable

Ask = Callable[[str], bytes]  # runs a statement, and gives what it answers as JSON lines

RECENT_SECONDS: Final = 900  # parts written before a crash are checked after it

_PARTS: Final = f"""
SELECT name, path, level, bytes_on_disk AS bytes,
    modification_time > now() - {RECENT_SECONDS} AS is_recent
FROM system.parts
WHERE active AND database = currentDatabase() AND table = 'events'
FORMAT JSONEachRow
"""
_CHECK: Final = (
    "CHECK TABLE events PART '{name}' SETTINGS check_query_single_value_result = 0"
    " FORMAT JSONEachRow"
)


class _Part(msgspec.Struct):
    name: str
    path: str
    level: int
    bytes: int
    is_recent: bool | int


class _Checked(msgspec.Struct):
    is_passed: bool | int


_PART_LINES: Final = msgspec.json.Decoder(_Part, strict=False)
_CHECKED_LINES: Final = msgspec.json.Decoder(_Checked, strict=False)


class Parts:
    """The parts of the table of events on disk, checked once each.

    Args:
        ask: how statements are run, in the database of the table.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._whole: set[str] | None = None

    def check(self) -> None:
        """Check what is new; an inserted part that is not whole is dropped.

        Raises:
            Retryable: what was inserted is lost; make room, and insert it again.
            Damaged: a merge wrote less than it should; the process must start again.
        """
        parts = _PART_LINES.decode_lines(self._ask(_PARTS))
        if self._whole is None:
            self._whole = {part.name for part in parts if not part.is_recent}
        self._whole &= {part.name for part in parts}
        broken = []
        for part in parts:
            if part.name not in self._whole:
                if self._is_whole(part):
                    self._whole.add(part.name)
                else:
                    broken.append(part)
        if broken:
            self._drop(broken)

    def _is_whole(self, part: _Part) -> bool:
        if part.level:  # may be large; what a failed write leaves out, its size tells
            return _is_written(part)
        (checked,) = _CHECKED_LINES.decode_lines(self._ask(_CHECK.format(name=part.name)))
        return bool(checked.is_passed)

    def _drop(self, broken: Sequence[_Part]) -> None:
        for part in broken:
            if not part.level:
                self._ask(f"ALTER TABLE events DROP PART '{part.name}'")
        if merged := [part.name for part in broken if part.level]:
            # A start takes the parts that were merged again; they are kept for 8 minutes.
            raise Damaged(
                f"the event store could not write part `{merged[0]}` in full; make room on its"
                " disk, and start again at once"
            )
        raise Retryable(
            f"the event store could not write {len(broken)} parts in full; make room on its disk,"
            " or keep events for fewer days (EVENT_RETENTION_DAYS)"
        )


def _is_written(part: _Part) -> bool:
    written = 0
    for folder, _, names in os.walk(part.path):
        for name in names:
            size = os.path.getsize(os.path.join(folder, name))
            if not size and not name.endswith(".bin"):  # a column of defaults is empty
                return False
            written += size
    return written >= part.bytes

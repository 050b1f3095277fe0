"""What the processes of a test said, for the report of its failure.

Every `*.log` in pytest's folder of this run counts, and in the folders that are named here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 6_000  # of each log, the last ones
_elsewhere: set[Path] = set()
_removed: dict[Path, str] = {}


def follow(folder: Path) -> None:
    """Count the logs in a folder that lies elsewhere, too."""
    _elsewhere.add(folder)


def keep(folder: Path) -> None:
    """Remember what the logs hold, as their folder is about to be removed."""
    _elsewhere.discard(folder)
    _removed.update((log, _tail(log)) for log in folder.glob("*.log"))


def forget() -> None:
    """A test begins: what was removed before is not its own."""
    _removed.clear()


def told(folder: Path, since: float) -> Iterator[tuple[str, str]]:
    """Title and end of each log that was written to.

    Args:
        folder: where to look.
        since: seconds since the epoch.
    """
    found = dict(_removed)
    for each in (folder, *_elsewhere):
        for log in each.rglob("*.log"):
            # Kafka's data are named by numbers alone.
            if not log.stem.isdigit() and log.stat().st_mtime >= since:
                found[log] = _tail(log)
    for log, text in sorted(found.items()):
        if text:
            yield str(log), text


def _tail(log: Path) -> str:
    return log.read_bytes()[-MOST_BYTES:].decode(errors="replace")

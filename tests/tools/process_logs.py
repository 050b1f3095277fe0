"""What the processes of a test said, for the report of its failure.

Every `*.log` in pytest's folder of this run counts, and what else is named here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 6_000  # of each log, the last ones
_elsewhere: dict[Path, str] = {}  # what each held when it was removed


def follow(log: Path) -> None:
    """Count a log that lies elsewhere, too."""
    _elsewhere[log] = ""


def keep(log: Path) -> None:
    """Remember what it holds, as it is about to be removed."""
    _elsewhere[log] = _tail(log)


def forget() -> None:
    """A test begins: what was removed before is not its own."""
    for log in [each for each in _elsewhere if not each.exists()]:
        del _elsewhere[log]


def told(folder: Path, since: float) -> Iterator[tuple[str, str]]:
    """Title and end of each log that was written to.

    Args:
        folder: where to look.
        since: seconds since the epoch.
    """
    # Kafka's data are named by numbers alone.
    inside = [each for each in folder.rglob("*.log") if not each.stem.isdigit()]
    for log in sorted([*inside, *_elsewhere]):
        if not log.exists():
            text = _elsewhere.get(log, "")
        else:
            text = _tail(log) if log.stat().st_mtime >= since else ""
        if text:
            yield str(log), text


def _tail(log: Path) -> str:
    return log.read_bytes()[-MOST_BYTES:].decode(errors="replace")

"""How far the log has been read, in memory and on disk."""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loss:
    """Lines of which the audit trail is still to be told that they are missing.

    Args:
        log: the log that they stood in.
        first, last: sequences, inclusive; both 0 where the extent is unknown.
        cause: why, as in `audit.gap`.
    """

    log: str
    first: int
    last: int
    cause: str

    def is_continued_by(self, other: "Loss") -> bool:
        return (
            (self.log, self.cause) == (other.log, other.cause)
            and self.last > 0
            and self.last + 1 == other.first
        )


@dataclass(frozen=True, slots=True)
class Position:
    """How far the file has been read; stored only when events have arrived.

    Args:
        log: id of the file's content, which numbers its events; empty before its first line.
        offset: bytes read.
        sequence: of the last event.
        tail: offset of the last line read. It is kept, to tell the file from another one.
        digest: SHA-256 of the bytes from `tail` to `offset`; empty for none.
        at: time of the last readable line, seconds since the epoch.
        losses: still to be told.
        outcomes: offsets of lines further on that were outcomes of decided calls. They have no
            event, also where a later process reads them: else it would number the rest anew.
    """

    log: str = ""
    offset: int = 0
    sequence: int = 0
    tail: int = 0
    digest: str = ""
    at: float = 0.0
    losses: tuple[Loss, ...] = ()
    outcomes: tuple[int, ...] = ()

    def losing(self, *losses: Loss) -> "Position":
        """The same, with more to tell; a loss that continues the last one grows it."""
        told = list(self.losses)
        for loss in losses:
            last = told[-1] if told else None
            if last and last.is_continued_by(loss):
                told[-1] = replace(last, last=loss.last)
            else:
                told.append(loss)
        return replace(self, losses=tuple(told))


class Bookmark:
    """A position on disk.

    Args:
        path: its file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Position:
        """The stored one; the file's beginning where none can be read."""
        try:
            stored = orjson.loads(self._path.read_bytes())
            losses = tuple(Loss(**loss) for loss in stored.pop("losses"))
            outcomes = tuple(stored.pop("outcomes"))
            return Position(**stored, losses=losses, outcomes=outcomes)
        except FileNotFoundError:
            return Position()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            # Events that were sent are sent again; their ids are the same.
            told = {"path": str(self._path), "error": str(error) or type(error).__name__}
            _log.error("the undecided log's place is lost: all lines are read anew", extra=told)
            return Position()

    def store(self, position: Position) -> None:
        """Replace the stored one; it is on disk when this returns.

        Raises:
            OSError: the disk is full, or failing; the former one stays.
        """
        fresh = self._path.with_name(self._path.name + ".new")
        with fresh.open("wb") as file:
            file.write(orjson.dumps(position))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)

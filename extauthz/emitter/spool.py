"""The spool: events on disk until ingest has them, in one SQLite database.

Synchronous and for one thread; nothing here knows of tasks or HTTP. A commit is on
the disk when it returns, and one process at a time holds the database.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from extauthz.core.errors import Invalid
from extauthz.core.events import Cause
from extauthz.emitter.entries import Gap, Line
from extauthz.emitter.journal import Leftover
from extauthz.emitter.volume import check_volume, is_damage, set_aside, unusable

_VERSION = 1
_PAGE_BYTES = 4096
_SCHEMA = f"""
CREATE TABLE starts (ordinal INTEGER PRIMARY KEY, gateway_start TEXT NOT NULL UNIQUE,
    closed INTEGER NOT NULL DEFAULT 0);
CREATE TABLE events (start INTEGER NOT NULL, sequence INTEGER NOT NULL, body BLOB NOT NULL,
    refused INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (start, sequence));
PRAGMA user_version = {_VERSION};
"""  # `closed`: what that start lost is accounted for. `refused`: told as a gap, not yet settled.

Position = tuple[int, int]
"""(ordinal of the start, sequence): the order in which events leave."""


@dataclass(frozen=True, slots=True)
class Start:
    """A process that used the spool.

    Args:
        ordinal: its place among the starts.
        closed: whether what it lost is accounted for.
    """

    ordinal: int
    closed: bool


class Spool:
    """The open database.

    Attributes:
        count: events that wait for ingest.
        bytes: pages in use, as bytes.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Open or create the database.

        Raises:
            Invalid: the folder cannot be written, another process holds the spool, or another
                release, whose layout differs, wrote it.
            sqlite3.DatabaseError: what lies there cannot be read, or not now.
        """
        self._max_pages = max(max_bytes // _PAGE_BYTES, 16)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # its log takes the same mode
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=1.0)
        except (OSError, sqlite3.OperationalError) as error:
            raise unusable(path, error) from error
        self._ordinal = self.bytes = 0
        try:
            self._prepare(path)
            waiting = self._connection.execute("SELECT count(*) FROM events WHERE NOT refused")
            self.count = int(waiting.fetchone()[0])
            self._measure()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, path: Path) -> None:
        run = self._connection.execute
        try:
            run(f"PRAGMA page_size = {_PAGE_BYTES}")
            run("PRAGMA locking_mode = EXCLUSIVE")  # also keeps a second process out
            run("PRAGMA journal_mode = WAL")
            run("PRAGMA synchronous = FULL")
            run("PRAGMA journal_size_limit = 4194304")
            run("BEGIN IMMEDIATE")
            run("COMMIT")
        except sqlite3.OperationalError as error:
            raise unusable(path, error) from error
        [version] = run("PRAGMA user_version").fetchone()
        [tables] = run("SELECT count(*) FROM sqlite_master").fetchone()
        if version == 0 and tables == 0:
            self._connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        elif version != _VERSION:
            raise Invalid(
                "SPOOL_DIR",
                f"the spool `{path}` has layout `{version}`, this release writes `{_VERSION}`",
                "run the release that wrote it until it has sent all, or name another folder",
            )
        [verdict] = run("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        run(f"PRAGMA max_page_count = {self._max_pages}")

    def starts(self) -> dict[str, Start]:
        """The starts that the spool knows, by gateway_start, oldest first."""
        rows = self._connection.execute(
            "SELECT gateway_start, ordinal, closed FROM starts ORDER BY ordinal"
        )
        return {name: Start(ordinal, bool(closed)) for name, ordinal, closed in rows}

    def sequences(self, start: int, since: int) -> Iterable[int]:
        """Sequences of one start that lie here, from `since` on, ascending."""
        for [sequence] in self._connection.execute(
            "SELECT sequence FROM events WHERE start = ? AND sequence >= ? ORDER BY sequence",
            (start, since),
        ):
            yield sequence

    def refused(self) -> list[Gap]:
        """Refused events whose gap has not been settled, one gap for each."""
        rows = self._connection.execute(
            "SELECT gateway_start, sequence FROM events JOIN starts ON ordinal = start"
            " WHERE refused ORDER BY start, sequence"
        )
        return [Gap(start, sequence, sequence, Cause.REFUSED) for start, sequence in rows]

    def begin(
        self, gateway_start: str, bodies: Sequence[bytes], saved: Sequence[Leftover] = ()
    ) -> int:
        """Open a start and account for all earlier ones, at once.

        Args:
            saved: of earlier starts, what lies in the journal alone; what lies here as well
                stays as it is here, with its outcome.
            gateway_start: of the start.
            bodies: its first events, with sequences from 1: the gaps of earlier starts,
                those of refused events included.

        Returns:
            The ordinal of the start.
        """
        run = self._connection.execute
        # A spool that is full to its bound must still take the tale of what was lost.
        saved_bytes = sum(len(body) for each in saved for _, body in each.events)
        beyond = 64 + 2 * saved_bytes // _PAGE_BYTES
        run(f"PRAGMA max_page_count = {self._max_pages + beyond}")
        with _transaction(self._connection):
            kept = sum(map(self._keep, saved))
            run("DELETE FROM events WHERE refused")
            run("UPDATE starts SET closed = 1")
            # The last hundred stay known: the mark may still be that of an earlier one.
            run(
                "DELETE FROM starts WHERE ordinal NOT IN (SELECT start FROM events)"
                " AND ordinal < (SELECT max(ordinal) FROM starts) - 100"
            )
            ordinal = run(
                "INSERT INTO starts (gateway_start) VALUES (?)", [gateway_start]
            ).lastrowid
            assert ordinal is not None
            self._insert(Line(ordinal, place, body) for place, body in enumerate(bodies, 1))
        run(f"PRAGMA max_page_count = {self._max_pages}")
        self.count += kept + len(bodies)
        self._ordinal = ordinal
        self._measure()
        return ordinal

    def _keep(self, saved: Leftover) -> int:
        run = self._connection.execute
        run("INSERT OR IGNORE INTO starts (gateway_start) VALUES (?)", [saved.gateway_start])
        [ordinal] = run(
            "SELECT ordinal FROM starts WHERE gateway_start = ?", [saved.gateway_start]
        ).fetchone()
        return self._connection.executemany(
            "INSERT OR IGNORE INTO events (start, sequence, body) VALUES (?, ?, ?)",
            ((ordinal, sequence, body) for sequence, body in saved.events),
        ).rowcount

    def append(self, lines: Sequence[Line]) -> None:
        """Store all lines, or none.

        Raises:
            sqlite3.Error: the spool or the disk is full, or failing.
        """
        with _transaction(self._connection):
            self._insert(lines)
        self.count += len(lines)
        self._measure()

    def oldest(self, after: Position, limit: int, max_bytes: int) -> list[Line]:
        """The first events beyond `after`, of one start, bounded but for the first.

        Those of earlier starts count as resent: nobody knows how far that start came.
        """
        found: list[Line] = []
        size = 0
        for start, sequence, body in self._connection.execute(
            "SELECT start, sequence, body FROM events"
            " WHERE (start, sequence) > (?, ?) AND NOT refused ORDER BY start, sequence LIMIT ?",
            (*after, limit),
        ):
            size += len(body)
            if found and (size > max_bytes or start != found[0].start):
                break
            found.append(Line(start, sequence, body, start < self._ordinal))
        return found

    def finish(self, through: Position, refused: Sequence[Line] = ()) -> None:
        """Remove what has been sent: all up to `through`. The refused stay, marked and empty.

        Raises:
            sqlite3.Error: as for `append`.
        """
        with _transaction(self._connection):
            marked = self._connection.executemany(
                "UPDATE events SET refused = 1, body = ''"
                " WHERE start = ? AND sequence = ? AND NOT refused",
                [(line.start, line.sequence) for line in refused],
            ).rowcount
            removed = self._connection.execute(
                "DELETE FROM events WHERE (start, sequence) <= (?, ?) AND NOT refused", through
            ).rowcount
        self.count -= removed + (marked if refused else 0)
        self._measure()

    def forget(self, gap: Gap) -> None:
        """Remove refused events: the gap that tells of them is sent or spooled."""
        self._connection.execute(
            "DELETE FROM events WHERE refused AND sequence BETWEEN ? AND ?"
            " AND start = (SELECT ordinal FROM starts WHERE gateway_start = ?)",
            (gap.first, gap.last, gap.gateway_start),
        )

    def close(self) -> None:
        self._connection.close()

    def _insert(self, lines: Iterable[Line]) -> None:
        self._connection.executemany(
            "INSERT INTO events (start, sequence, body) VALUES (?, ?, ?)",
            ((line.start, line.sequence, line.body) for line in lines),
        )

    def _measure(self) -> None:
        run = self._connection.execute
        [pages], [free] = (
            run("PRAGMA page_count").fetchone(),
            run("PRAGMA freelist_count").fetchone(),
        )
        self.bytes = (pages - free) * _PAGE_BYTES


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing (sqlite3's own context manager never begins)."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have ended it already
            connection.execute("ROLLBACK")
        raise


def open_spool(path: Path, max_bytes: int, journal_bytes: int = 0) -> tuple[Spool, str]:
    """Open the spool; one that is damaged is set aside, and a new one begun.

    What cannot be read for another reason, such as a disk that fails for a while, stays.

    Args:
        path, max_bytes: as for `Spool`.
        journal_bytes: what else must fit on its volume.

    Returns:
        The spool, and what was wrong with the old one (empty when nothing was).

    Raises:
        Invalid: as for `Spool`; or `max_bytes` is more than the volume holds.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_volume(path.parent, max_bytes, journal_bytes)
        return Spool(path, max_bytes), ""
    except OSError as error:
        raise unusable(path, error) from error
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise unusable(path, error) from error
        set_aside(path)
        return Spool(path, max_bytes), str(error)

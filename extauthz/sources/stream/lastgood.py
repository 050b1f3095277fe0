"""The last known good policy on disk, so that a restart without a controller goes on with it.

One SQLite database: a change costs a row, and each stands whole or not at all. What its rows say is
believed only where they lead to the revision that stands beside them.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from extauthz.core.bindings import reference
from extauthz.core.canonical import canonical
from extauthz.core.errors import Invalid
from extauthz.core.fields import Fields
from extauthz.core.incremental import ObjectKey

_VERSION: Final = 1
_SCHEMA: Final = f"""
CREATE TABLE document (head BLOB NOT NULL, revision TEXT NOT NULL, confirmed_at REAL NOT NULL);
CREATE TABLE objects (kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (kind, namespace, name)) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
"""
# A damaged file may hold values of any type.
_SELECT_DOCUMENT: Final = """SELECT CAST(head AS BLOB), CAST(revision AS TEXT),
    CAST(confirmed_at AS REAL) FROM document"""
_BUSY_SECONDS: Final = 10.0  # another connection of this process may be writing a whole document

Objects = Iterable[tuple[ObjectKey, bytes]]


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept.

    Args:
        raw: the document, without its digests.
        revision: what its digest must be.
        confirmed_at: when it was last known to be current, seconds since the epoch.
    """

    raw: bytes
    revision: str
    confirmed_at: float


class LastGood:
    """The open database; for one thread at a time. Every method may raise sqlite3.Error.

    Args:
        path: of the file; made with mode 0600 where it is absent, as is its folder.

    Raises:
        OSError, sqlite3.Error: it cannot be made, or is no such database.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # its log takes the same mode
        self._connection = sqlite3.connect(
            path, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False
        )
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")  # a killed process loses nothing
        run("PRAGMA journal_size_limit = 4194304")
        [version] = run("PRAGMA user_version").fetchone()
        [tables] = run("SELECT count(*) FROM sqlite_master").fetchone()
        if version == 0 and tables == 0:
            self._connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"it has layout `{version}`, not `{_VERSION}`")
        [verdict] = run("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)

    def close(self) -> None:
        self._connection.close()

    def read(self) -> Kept | None:
        """What is kept; None where nothing is."""
        run = self._connection.execute
        row = run(_SELECT_DOCUMENT).fetchone()
        if row is None:
            return None
        head, revision, confirmed_at = row
        select = "SELECT CAST(body AS BLOB) FROM objects WHERE kind = ?"
        grants, sessions = (
            [body for [body] in run(select, (kind,))] for kind in ("grant", "session")
        )
        return Kept(whole(head, grants, sessions), revision, confirmed_at)

    def replace(
        self, head: Mapping[str, Any], objects: Objects, *, revision: str, now: float
    ) -> None:
        """Keep another document."""
        with self._transaction() as run:
            run("DELETE FROM objects")
            self._put(objects)
            run("DELETE FROM document")
            run("INSERT INTO document VALUES (?, ?, ?)", (canonical(head), revision, now))

    def change(
        self,
        head: Mapping[str, Any] | None,
        objects: Objects,
        gone: Iterable[ObjectKey],
        *,
        base: str,
        revision: str,
        now: float,
    ) -> None:
        """Keep a change of the document `base`; `head` None: its own.

        Raises:
            sqlite3.DataError: it is not `base` that is kept.
        """
        with self._transaction() as run:
            update = "UPDATE document SET revision = ?, confirmed_at = ? WHERE revision = ?"
            if run(update, (revision, now, base)).rowcount != 1:
                raise sqlite3.DataError(f"`{base}` is not kept")
            if head is not None:
                run("UPDATE document SET head = ?", (canonical(head),))
            self._connection.executemany(
                "DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?", gone
            )
            self._put(objects)

    def confirm(self, revision: str, now: float) -> None:
        """Note that the document is still the current one, if it is kept."""
        update = "UPDATE document SET confirmed_at = ? WHERE revision = ?"
        self._connection.execute(update, (now, revision))

    def _put(self, objects: Objects) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)",
            ((*key, body) for key, body in objects),
        )

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection.execute
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def open_anew(path: Path) -> LastGood:
    """Open it where what is there is damaged: that stays beside it, as `.damaged`.

    Raises:
        OSError, sqlite3.Error: it cannot be made.
    """
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    if path.exists():
        path.replace(path.with_name(f"{path.name}.damaged"))
    return LastGood(path)


def whole(head: bytes, grants: list[bytes], sessions: list[bytes]) -> bytes:
    """One JSON document of its parts. What is no JSON stays none, and is refused as a whole.

    Raises:
        Invalid: the head is no object that more can be added to.
    """
    start = head.rstrip(b" \t\r\n")
    if not start.endswith(b"}") or start.count(b'"') == 0:
        raise Invalid("head", "is no JSON object with members", "send the document's other members")
    lists = b'"grants":[%b],"sessions":[%b]}' % (b",".join(grants), b",".join(sessions))
    return start[:-1] + b"," + lists


def objects_of(document: Mapping[str, Any], namespace: str) -> Iterator[tuple[ObjectKey, bytes]]:
    """The grants and sessions of a document, as they are kept."""
    for kind in ("grant", "session"):
        for value in document.get(f"{kind}s") or ():
            ref = reference(Fields(value), namespace)
            yield (kind, ref.namespace, ref.name), canonical(value)

"""Records of changes that the event log has not taken yet, in one SQLite file.

What the log has taken stays for an hour, so that a process that starts again knows it although
the store may not have it yet.
"""

import math
import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

from backend.ports.event_log import RESENT_HEADER, Message
from extauthz.core.errors import Invalid, Retryable

IN_MEMORY: Final = Path(":memory:")
KEPT_SECONDS: Final = 3600.0
MOST_AT_ONCE: Final = 500

# `sent_at` is null while it waits; `tried` says that the log may have it already.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY AUTOINCREMENT, value BLOB NOT NULL, key BLOB,
    tried INTEGER NOT NULL DEFAULT 0, sent_at REAL);
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record that waits for the log."""

    id: int
    message: Message


class Outbox:
    """For any thread; each call is short.

    Args:
        path: the file, made with mode 0600; `IN_MEMORY` for none.
        clock: seconds since the epoch.

    `lost` counts what it should have kept and could not.

    Raises:
        Invalid: it cannot be opened.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._clock, self._lock = clock, Lock()
        self.lost = 0
        try:
            if path != IN_MEMORY:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._sqlite = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._sqlite.execute("PRAGMA synchronous=FULL")  # a change survives power loss
            self._sqlite.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            mend = "name a file on a local disk that this process may write"
            problem = f"`{path}` cannot be opened ({error})"
            raise Invalid("CHANGE_OUTBOX", problem, mend) from error

    def put(self, message: Message) -> None:
        """Keep it until it is sent. Raises: Retryable."""
        self._run("INSERT INTO records (value, key) VALUES (?, ?)", (message.value, message.key))

    def keep_sent(self, message: Message) -> None:
        """Keep what the log took already. Raises: Retryable."""
        given = (message.value, message.key, self._clock())
        self._run("INSERT INTO records (value, key, sent_at) VALUES (?, ?, ?)", given)
        self._run("DELETE FROM records WHERE sent_at < ?", (self._clock() - KEPT_SECONDS,))

    def waiting(self) -> Sequence[Waiting]:
        """The oldest ones, in the order that they came in. Raises: Retryable."""
        rows = self._run(
            "SELECT id, value, key, tried FROM records WHERE sent_at IS NULL ORDER BY id LIMIT ?",
            (MOST_AT_ONCE,),
        )
        return [
            Waiting(id_, Message(value, key, ((RESENT_HEADER, b"1"),) if tried else ()))
            for id_, value, key, tried in rows
        ]

    def count(self) -> float:
        """How many wait; not a number where nobody can tell."""
        try:
            ((waiting,),) = self._run("SELECT count(*) FROM records WHERE sent_at IS NULL", ())
        except Retryable:
            return math.nan
        return float(waiting)

    def all(self) -> Sequence[Message]:
        """Everything that is kept. Raises: Retryable."""
        rows = self._run("SELECT value, key FROM records ORDER BY id", ())
        return [Message(value, key) for value, key in rows]

    def trying(self, some: Sequence[Waiting]) -> None:
        """From now on the log may have them, whatever happens. Raises: Retryable."""
        given = (some[0].id, some[-1].id)
        self._run("UPDATE records SET tried = 1 WHERE id BETWEEN ? AND ?", given)

    def sent(self, some: Sequence[Waiting]) -> None:
        """The log has them. Raises: Retryable."""
        given = (self._clock(), some[0].id, some[-1].id)
        self._run("UPDATE records SET sent_at = ? WHERE id BETWEEN ? AND ?", given)

    def close(self) -> None:
        with self._lock:
            self._sqlite.close()

    def _run(self, sql: str, given: tuple[object, ...]) -> list[Any]:
        try:
            with self._lock:
                return self._sqlite.execute(sql, given).fetchall()
        except sqlite3.Error as error:
            problem = f"the outbox of changes cannot be used ({error})"
            raise Retryable(f"{problem}; look at the disk of CHANGE_OUTBOX") from error

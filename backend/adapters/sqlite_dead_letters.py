"""Dead letters of the SQLite log, in a table beside its records."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from backend.adapters.sqlite_file import headers_in, headers_out, transaction
from backend.ports.event_log import DeadLetter, Position, Record, SetAside
from extauthz.core.errors import NotFound

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS dead_letters (
    turn INTEGER PRIMARY KEY AUTOINCREMENT,
    topic_id TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
    value BLOB NOT NULL, key BLOB, headers BLOB NOT NULL, appended_at REAL NOT NULL,
    why TEXT NOT NULL, at REAL NOT NULL,
    UNIQUE (topic_id, partition, offset));
"""
_ADD: Final = """
INSERT OR IGNORE INTO dead_letters
    (topic_id, partition, offset, value, key, headers, appended_at, why, at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_SOME: Final = """
SELECT topic_id, partition, offset, value, key, headers, appended_at, why, at FROM dead_letters
    WHERE turn > coalesce(
        (SELECT turn FROM dead_letters WHERE topic_id = ? AND partition = ? AND offset = ?), 0)
    ORDER BY turn LIMIT ?
"""
_ONE: Final = """
SELECT topic_id, partition, offset, value, key, headers, appended_at, why, at FROM dead_letters
    WHERE topic_id = ? AND partition = ? AND offset = ?
"""
_REMOVE: Final = "DELETE FROM dead_letters WHERE topic_id = ? AND partition = ? AND offset = ?"
_NOWHERE: Final = ("", 0, 0)


def add(connection: sqlite3.Connection, letters: Sequence[DeadLetter], now: float) -> None:
    """Keep those that are not kept yet."""
    rows = [
        (
            *_place(letter.record.position),
            letter.record.value,
            letter.record.key,
            headers_out(letter.record.headers),
            letter.record.appended_at,
            letter.why,
            now,
        )
        for letter in letters
    ]
    with transaction(connection):
        connection.executemany(_ADD, rows)


def some(connection: sqlite3.Connection, limit: int, after: Position | None) -> list[SetAside]:
    """Oldest first; all of them where `after` is gone."""
    place = _place(after) if after else _NOWHERE
    return [_letter(row) for row in connection.execute(_SOME, (*place, limit))]


def one(connection: sqlite3.Connection, position: Position) -> SetAside:
    """Raises: NotFound."""
    row = connection.execute(_ONE, _place(position)).fetchone()
    if row is None:
        raise _no_letter(position)
    return _letter(row)


def remove(connection: sqlite3.Connection, position: Position) -> None:
    """Part of the caller's transaction. Raises: NotFound."""
    if not connection.execute(_REMOVE, _place(position)).rowcount:
        raise _no_letter(position)


def _place(position: Position) -> tuple[str, int, int]:
    return str(position.topic_id), position.partition, position.offset


def _letter(row: Sequence[Any]) -> SetAside:
    topic_id, partition, offset, value, key, headers, appended_at, why, at = row
    position = Position(UUID(topic_id), partition, offset)
    record = Record(position, value, headers_in(headers), appended_at, key)
    return SetAside(DeadLetter(record, why), datetime.fromtimestamp(at, UTC))


def _no_letter(position: Position) -> NotFound:
    return NotFound(f"no dead letter of `{position}`; list them")

"""The volume that spool, journal and mark lie on, and what is said of one that does not do."""

import shutil
import sqlite3
from itertools import count
from pathlib import Path

from extauthz.core.errors import Invalid

_LOG_BYTES = 16 * 1024 * 1024  # room for the spool's write-ahead log


def check_volume(folder: Path, max_bytes: int, journal_bytes: int = 0) -> None:
    """A volume that fills before the spool does could not even take removals.

    Args:
        folder: on that volume.
        max_bytes: bound of the spool.
        journal_bytes: bound of the journal beside it.

    Raises:
        Invalid: the volume holds less.
    """
    total = shutil.disk_usage(folder).total
    beside = _LOG_BYTES + journal_bytes
    if max_bytes + beside > total:
        raise Invalid(
            "SPOOL_MAX_BYTES",
            f"`{max_bytes}` is more than the volume of `{folder}` holds (`{total}`)",
            f"set at most {max(total - beside, 0)}, or name a larger volume",
        )


def unusable(path: Path, error: Exception) -> Invalid:
    """What keeps the spool at `path` from working, with the mend."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Invalid(
            "SPOOL_DIR", f"`{path.parent}` is in use by another process", "give each its own folder"
        )
    return Invalid(
        "SPOOL_DIR", f"`{path.parent}` cannot be used ({error})", "name a folder on a writable disk"
    )


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """True where the spool itself is broken, not the disk for a while."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # none: of quick_check
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def set_aside(path: Path) -> None:
    """Rename it to a name that is free: what was set aside before may still be wanted."""
    names = (f"{path.name}.unreadable-{number}" for number in count(1))
    aside = next(name for name in names if not path.with_name(name).exists())
    log = path.with_name(path.name + "-wal")
    path.replace(path.with_name(aside))
    if log.exists():
        log.replace(path.with_name(aside + "-wal"))

"""The files of an access directory: the only place where core looks at a disk."""

import errno
import os
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from extauthz.core.documents import MAX_FILE_BYTES

SUFFIXES: Final = (".yaml", ".yml")
SETTLE_SECONDS: Final = 0.1  # a file that is being rewritten is empty or missing for a moment
_MOST_ROUNDS: Final = 20  # then what keeps changing is taken as it is

Signature = tuple[int, int, int, int, int]
Listing = Mapping[Path, Signature | None]


def find(folder: Path) -> list[Path]:
    """The YAML files under a folder, sorted; links are followed, hidden names left out.

    A ConfigMap mount keeps its versions under hidden names (`..data`) and links to them.

    Raises:
        OSError: where a folder cannot be listed.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        stat = os.stat(root)
        if (stat.st_dev, stat.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = (name for name in files if not name.startswith("."))
        found += [Path(root, name) for name in names if name.lower().endswith(SUFFIXES)]
    return sorted(found)


def read(path: Path) -> bytes:
    """A file's bytes, of one that is too large to be taken one more than that.

    Raises:
        OSError: it cannot be read, or is no file: a pipe would be waited for without end.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        return file.read(MAX_FILE_BYTES + 1)


def signature(path: Path) -> Signature | None:
    """Changes whenever the file does; None where nothing can be read."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def settled(scan: Callable[[], Listing], known: Listing, settle_seconds: float) -> Listing:
    """What a scan finds, once it is as `known` or has been the same for a while.

    A file that is being rewritten is empty or missing for a moment: neither may count.
    Blocks: call it in a thread.

    Args:
        scan: lists files with their signatures.
        known: the listing that was last acted upon.
        settle_seconds: how long a change must stand.
    """
    listing = scan()
    for _ in range(_MOST_ROUNDS):
        if listing == known:
            break
        time.sleep(settle_seconds)
        earlier, listing = listing, scan()
        if listing == earlier:
            break
    return listing


def _refuse(error: OSError) -> None:
    raise error

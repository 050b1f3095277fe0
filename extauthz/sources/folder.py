"""Looks at files that others write: what stands there, once they have finished writing."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

_MOST_ROUNDS: Final = 20  # then what keeps changing is taken as it is

Signature = tuple[int, int, int, int, int]
Listing = Mapping[Path, Signature | None]


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

"""Wakes a source when files change, and now and then in any case."""

import asyncio
import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Protocol

from watchfiles import awatch

_log = logging.getLogger(__name__)


class Watched(Protocol):
    """A policy source that reads files.

    Args:
        recursive: whether subfolders count.
        name: for people.
    """

    recursive: bool

    @property
    def name(self) -> str: ...

    def folders(self) -> AbstractSet[Path]:
        """Where a change shows; what links point to now."""

    async def look(self) -> None:
        """Bring the policy up to date. Never raises for what files hold."""


async def keep_looking(
    source: Watched, stop: asyncio.Event, poll_seconds: Callable[[], float]
) -> None:
    """Look at each change and at least every `poll_seconds()`, until `stop` is set.

    The poll is for what no notice reaches: network file systems, links that were swapped.
    """
    can_watch = True
    while not stop.is_set():
        try:
            await _watch(source, stop, poll_seconds)
            can_watch = True
        except OSError as error:  # the folder is away, or the kernel's watches are used up
            if can_watch:
                _log.warning("files are polled, not watched", extra={"error": str(error)})
            can_watch = False
            await _sleep(stop, poll_seconds())
            await source.look()


async def _watch(source: Watched, stop: asyncio.Event, poll_seconds: Callable[[], float]) -> None:
    """Until `stop`, or until the folders or the time between two looks are others."""
    seconds = poll_seconds()
    armed = {folder: _identity(folder) for folder in source.folders()}
    changes = awatch(
        *armed,
        watch_filter=None,
        debounce=200,
        step=20,
        rust_timeout=int(seconds * 1000),
        yield_on_timeout=True,
        stop_event=stop,
        recursive=source.recursive,
    )
    await source.look()  # for what changed before the watch stood
    if poll_seconds() != seconds:
        return
    async for _ in changes:
        await source.look()
        if armed != {folder: _identity(folder) for folder in source.folders()}:
            return
        if poll_seconds() != seconds:
            return


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass

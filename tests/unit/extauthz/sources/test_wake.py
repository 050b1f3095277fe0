"""A source is woken by changes, and without them by the poll."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from extauthz.sources.wake import keep_looking
from tests.tools.waiting import SECONDS

LONG = 600.0  # a poll that never comes


class Counting:
    """A source that counts its looks."""

    name = "counting"

    def __init__(self, folder: Path, *, recursive: bool) -> None:
        self._folder, self.recursive = folder, recursive
        self.looks = 0
        self._looked = asyncio.Condition()

    def folders(self) -> set[Path]:
        return {self._folder.resolve()}

    async def look(self) -> None:
        async with self._looked:
            self.looks += 1
            self._looked.notify_all()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS), self._looked:
            await self._looked.wait_for(condition)


@asynccontextmanager
async def watching(source: Counting, poll_seconds: float) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(keep_looking(source, stop, lambda: poll_seconds))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(SECONDS):
            await task


async def test_change_wakes(tmp_path: Path) -> None:
    """A new file, also in a subfolder, wakes the source without the poll."""
    (tmp_path / "sub").mkdir()
    source = Counting(tmp_path, recursive=True)
    async with watching(source, LONG):
        await source.wait_for(lambda: source.looks == 1)
        for name in ("a.yaml", "sub/b.yaml", "a.yaml"):
            before = source.looks
            await asyncio.sleep(0.05)
            (tmp_path / name).write_text(name)
            await source.wait_for(lambda before=before: source.looks > before)


async def test_link_swap_wakes(tmp_path: Path) -> None:
    """A ConfigMap's swap of `..data` wakes a source that watches the mount alone."""
    source = Counting(tmp_path, recursive=False)
    async with watching(source, LONG):
        await source.wait_for(lambda: source.looks == 1)
        await asyncio.sleep(0.05)
        (tmp_path / "..new").symlink_to("nowhere")
        (tmp_path / "..new").rename(tmp_path / "..data")
        await source.wait_for(lambda: source.looks > 1)


async def test_poll(tmp_path: Path) -> None:
    """Without any change the poll looks, and a folder that is away is polled for."""
    folder = tmp_path / "later"
    source = Counting(folder, recursive=True)
    async with watching(source, 0.05):
        await source.wait_for(lambda: source.looks >= 2)
        folder.mkdir()
        await source.wait_for(lambda: source.looks >= 5)


async def test_the_poll_follows_the_policy(tmp_path: Path) -> None:
    """A policy that may not grow old is confirmed often, as soon as it is there."""
    source, stop = Counting(tmp_path, recursive=True), asyncio.Event()
    task = asyncio.create_task(keep_looking(source, stop, lambda: 0.05 if source.looks else LONG))
    await source.wait_for(lambda: source.looks >= 4)
    stop.set()
    async with asyncio.timeout(SECONDS):
        await task

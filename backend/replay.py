"""Opens what `sentinel replay` needs; the command line itself names no component."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from backend import wiring, wiring_adapters
from backend.processor.replay import Progress, Replay
from backend.settings import Settings
from extauthz.core.errors import Invalid

__all__ = ["Progress", "Replay", "opened"]


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Replay]:
    """What stores the events of EVENT_LOG_URL in STORE_URL, both open until the block ends.

    Raises:
        Invalid: a URL is wrong, or there is no such log.
        Conflict: another process owns the store.
        Retryable: the log or the store is away.
    """
    _check_exists(settings.event_log_url)
    async with AsyncExitStack() as stack:
        log = wiring_adapters.new_event_log(settings)
        await log.start()
        stack.push_async_callback(log.stop)
        store = await asyncio.to_thread(wiring_adapters.new_event_store, settings)
        stack.callback(store.close)
        await asyncio.to_thread(store.migrate)
        yield Replay(
            log=log,
            store=store,
            group=_group(settings.store_url),
            new_batch=lambda: wiring.new_batcher(settings),
            monotonic=time.monotonic,
            clock=time.time,
            is_export=urlsplit(settings.event_log_url).scheme == "file",
        )


def _check_exists(url: str) -> None:
    """Opening an embedded log would make it."""
    parts = urlsplit(url)
    if not parts.netloc and not Path(parts.path).is_file():
        raise Invalid("EVENT_LOG_URL", f"`{parts.path}` is no file", "name an existing log")


def _group(store_url: str) -> str:
    """Two replays into one store are members of one group, which share the work or refuse."""
    target = store_url.rpartition("@")[2]  # credentials may change
    return f"replay-{hashlib.sha256(target.encode()).hexdigest()[:16]}"

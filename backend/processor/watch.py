"""Figures about the stream that are looked up beside the work: lag and duplicates."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from backend.metrics import ProcessorMetrics
from backend.ports.event_log import Consumer
from backend.ports.event_store import EventStore
from extauthz.core.errors import SentinelError

LAG_SECONDS: Final = 1.0  # between two looks at the lag
DUPLICATES_SECONDS: Final = 60.0  # between two counts of duplicates
DUPLICATES_WINDOW: Final = timedelta(hours=1)


class Watch:
    """Keeps the metrics true while an insert waits for the store, too.

    Args:
        clock: seconds since the epoch.
        oldest: when the log took the oldest record in hand; 0 when there is none.
    """

    def __init__(
        self,
        store: EventStore,
        metrics: ProcessorMetrics,
        clock: Callable[[], float],
        oldest: Callable[[], float],
    ) -> None:
        self._store, self._metrics = store, metrics
        self._clock, self._oldest = clock, oldest

    @asynccontextmanager
    async def over(self, consumer: Consumer) -> AsyncIterator[None]:
        """Watch until the block ends."""
        tasks = [
            asyncio.create_task(self._lag(consumer)),
            asyncio.create_task(self._duplicates()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    async def _lag(self, consumer: Consumer) -> None:
        while True:
            oldest = self._oldest()
            self._metrics.lag_seconds.set(max(0.0, self._clock() - oldest) if oldest else 0.0)
            try:
                self._metrics.lag.set(await consumer.lag())
            except SentinelError:  # the last one read would pass for the present one
                self._metrics.lag.set(math.nan)
            await asyncio.sleep(LAG_SECONDS)

    async def _duplicates(self) -> None:
        while True:
            since = datetime.fromtimestamp(self._clock(), UTC) - DUPLICATES_WINDOW
            with suppress(SentinelError):
                count = await asyncio.to_thread(self._store.duplicates, since)
                self._metrics.duplicates.set(count)
            await asyncio.sleep(DUPLICATES_SECONDS)

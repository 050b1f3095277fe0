"""A log into a store that lacks some of it, or all: the processor's own parts, run to the end.

The source stays as it is. No offset is committed there: a group that is left half-way would
keep an embedded log from forgetting what was processed. Whoever starts again reads from the
beginning, and the store says what it holds. Poison is listed, not set aside in the source.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from backend.metrics import ProcessorMetrics, Result, new_registry
from backend.ports.event_log import Consumer, DeadLetter, Ownership, Position, Record
from backend.ports.event_store import EventStore
from backend.processor.batch import Batcher
from backend.processor.poison import DeadLetterLimit
from backend.processor.processor import Processor, Source

MOST_LISTED: Final = 20  # dead letters


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay has come.

    Args:
        stored: rows that it stored.
        present: records whose positions the store held already.
        copies: events that the store holds from another position.
        poison: records that can never be stored.
        total: records that lay in the log when it was opened; 0 while that is not known.
        missing: of `total`, those that the log did not give.
        listed: the first of the records that can never be stored.
    """

    stored: int
    present: int
    copies: int
    poison: int
    total: int
    missing: int
    listed: tuple[DeadLetter, ...]

    @property
    def read(self) -> int:
        return self.stored + self.present + self.copies + self.poison


class Replay:
    """One replay. Nothing else may store events of that log into the store meanwhile.

    Args:
        log: a started event log.
        store: migrated.
        group: consumer group; whoever replays into the same store names the same.
        new_batch: makes an empty batcher.
        monotonic: seconds of a monotonic clock.
        clock: seconds since the epoch.
        is_export: its events may lie in the store from another log: each is looked up by its id.
    """

    def __init__(
        self,
        *,
        log: Source,
        store: EventStore,
        group: str,
        new_batch: Callable[[], Batcher],
        monotonic: Callable[[], float],
        clock: Callable[[], float],
        is_export: bool,
    ) -> None:
        self._metrics = ProcessorMetrics(new_registry())
        self._source = _Untouched(log)
        self._processor = Processor(
            log=self._source,
            store=store,
            group=group,
            new_batch=new_batch,
            metrics=self._metrics,
            limit=DeadLetterLimit.none(),
            empties_log=True,
            monotonic=monotonic,
            clock=clock,
            doubts_all=is_export,
        )

    async def run(self) -> None:
        """Store everything that lies in the log now; a cancelled run may be started again.

        Raises:
            Conflict: another process replays into the same store.
            Retryable: the log is away.
        """
        stop = asyncio.Event()
        stop.set()  # the processor then reads to the end, and ends
        await self._processor.run(stop, lambda: None)

    @property
    def progress(self) -> Progress:
        counted = self._metrics.processed
        return Progress(
            stored=counted(Result.STORED),
            present=counted(Result.PRESENT),
            copies=counted(Result.RESENT),
            poison=counted(Result.POISON),
            total=self._source.total,
            missing=self._processor.unread,
            listed=tuple(self._source.listed),
        )


class _Untouched:
    """A log from which is only read."""

    def __init__(self, log: Source) -> None:
        self._log = log
        self.listed: list[DeadLetter] = []
        self.total = 0

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        self.listed += letters[: MOST_LISTED - len(self.listed)]

    def consumer(self, group: str) -> Consumer:
        return _Reader(self, self._log.consumer(group))


class _Reader:
    """A consumer that leaves no trace."""

    def __init__(self, source: _Untouched, consumer: Consumer) -> None:
        self._source, self._consumer = source, consumer

    async def start(self, ownership: Ownership) -> None:
        await self._consumer.start(ownership)

    async def fetch(self, most: int, wait_seconds: float) -> Sequence[Record]:
        return await self._consumer.fetch(most, wait_seconds)

    async def confirm(self) -> float:
        return math.inf  # its group is its own

    async def commit(self, positions: Sequence[Position]) -> None:
        return

    async def lag(self) -> int:
        lag = await self._consumer.lag()
        self._source.total = self._source.total or lag
        return lag

    async def stop(self) -> None:
        await self._consumer.stop()

"""Log to store, exactly once: insert, then commit; skip what the store already holds.

A kill between insert and commit makes the log hand the same records out again;
`present` then names those that are stored, so any batch boundary is right.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar
from uuid import UUID

import stamina

from backend.metrics import ProcessorMetrics
from backend.ports import Assignment, Consumer, DeadLetter, EventLog, EventStore, Position, Record
from backend.processor.batch import Batcher
from backend.processor.insertion import Insertion
from backend.processor.rows import Incoming, read_record
from extauthz.core.errors import Poison, Retryable

T = TypeVar("T")
LAG_SECONDS: Final = 1.0  # between two looks at the lag
LISTEN_SECONDS: Final = 0.25  # longest wait for records, so that a stop is heard
_RETRYING: Final = stamina.AsyncRetryingCaller(
    attempts=None, timeout=None, wait_initial=0.1, wait_max=5.0
).on(Retryable)

_log = logging.getLogger(__name__)


class Processor:
    """One member of the consumer group. `run` may be called again after it returned.

    Args:
        group: consumer group.
        new_batch: makes an empty batcher.
        monotonic: seconds of a monotonic clock.
    """

    name = "processor"

    def __init__(
        self,
        *,
        log: EventLog,
        store: EventStore,
        group: str,
        new_batch: Callable[[], Batcher],
        metrics: ProcessorMetrics,
        monotonic: Callable[[], float],
    ) -> None:
        self._log, self._group = log, group
        self._insertion = Insertion(store, metrics)
        self._new_batch, self._batch = new_batch, new_batch()
        self._metrics, self._monotonic = metrics, monotonic
        self._flushing = asyncio.Lock()
        self._assigned = False

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Consume until `stop`; then finish what lies in the log at that moment."""
        consumer = self._log.consumer(self._group)
        watching: asyncio.Task[None] | None = None
        try:
            await consumer.start(self)
            watching = asyncio.create_task(self._watch_lag(consumer))
            ready()
            while not stop.is_set():
                await self._step(consumer, self._batch.room)
            left = await consumer.lag() - len(self._batch)
            while left > 0 and (fetched := await self._step(consumer, left)):
                left -= fetched
            await self._flush(consumer)
        finally:
            if watching:
                watching.cancel()
            await consumer.stop()

    async def _watch_lag(self, consumer: Consumer) -> None:
        """Keep the metric true while an insert waits for the store, too."""
        while True:
            with suppress(Retryable):
                self._metrics.lag.set(await consumer.lag())
            await asyncio.sleep(LAG_SECONDS)

    async def ping(self) -> None:
        """Raises Retryable while no partition is assigned."""
        if not self._assigned:
            raise Retryable("no partition is assigned yet; wait, or look at the event log")

    async def assigned(self, assignment: Assignment) -> None:
        await self._until_it_works(
            lambda _: asyncio.to_thread(self._insertion.own, assignment),
        )
        self._assigned = True

    async def revoked(self) -> None:
        async with self._flushing:  # a running insert ends first
            self._assigned = False
            self._insertion.disown()
            self._batch = self._new_batch()

    async def _step(self, consumer: Consumer, most: int) -> int:
        """Fetch once, and flush if it is time; how many records came."""
        wait = max(0.0, min(LISTEN_SECONDS, self._batch.due_in(self._monotonic())))
        most = min(most, self._batch.room)
        records = await self._until_it_works(lambda _: consumer.fetch(most, wait))
        for record in records:
            self._batch.add(record, self._monotonic())
        if self._batch.is_due(self._monotonic()):
            await self._flush(consumer)
        return len(records)

    async def _flush(self, consumer: Consumer) -> None:
        async with self._flushing:
            records = self._batch.take()
            if not records:
                return
            rows, poison = _read(records)
            refused = await self._until_it_works(
                lambda again: asyncio.to_thread(self._insertion.insert, rows, again=again)
            )
            if letters := poison + refused:
                _log.warning("records set aside", extra={"count": len(letters)})
                self._metrics.events.labels("poison").inc(len(letters))
                await self._until_it_works(lambda _: self._log.dead_letter(letters))
            last = _last_positions(records)
            await self._until_it_works(lambda _: consumer.commit(last))

    async def _until_it_works(self, work: Callable[[bool], Awaitable[T]]) -> T:
        """Await `work(again)`, with back-off while it raises Retryable: the log waits."""
        again = False

        async def attempt() -> T:
            nonlocal again
            try:
                return await work(again)
            except Retryable:
                if not again:
                    self._pause(1)
                again = True
                raise

        result = await _RETRYING(attempt)
        if again:
            self._pause(0)
        return result

    def _pause(self, paused: int) -> None:
        self._metrics.intake_paused.set(paused)
        self._metrics.pause_transitions.inc()


def _read(records: Sequence[Record]) -> tuple[list[Incoming], list[DeadLetter]]:
    rows, letters = [], []
    for record in records:
        try:
            rows.append(read_record(record))
        except Poison as error:
            letters.append(DeadLetter(record, error.why))
    return rows, letters


def _last_positions(records: Sequence[Record]) -> list[Position]:
    last: dict[tuple[UUID, int], Position] = {}
    for record in records:  # in order within a partition
        last[record.position.topic_id, record.position.partition] = record.position
    return list(last.values())

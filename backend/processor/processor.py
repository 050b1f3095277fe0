"""Log to store, exactly once: insert, then commit; skip what the store already holds.

A kill between insert and commit makes the log hand the same records out again; the store
then names those it holds, so any batch boundary is right. While one batch is being
inserted the next is fetched, and no more: a slow store stops the fetching.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar
from uuid import UUID

import stamina

from backend.metrics import ProcessorMetrics, Result
from backend.ports.event_log import Assignment, Consumer, DeadLetter, Position, Record
from backend.ports.event_store import EventStore, StoredEvent
from backend.processor.batch import Batcher
from backend.processor.insertion import Insertion, Refused
from backend.processor.poison import DeadLetterLimit, TooManyDeadLetters
from backend.processor.rows import read_records
from backend.processor.watch import Watch
from extauthz.core.errors import Conflict, Retryable

T = TypeVar("T")
LISTEN_SECONDS: Final = 0.25  # longest wait for records, so that a stop is heard
IDLE_SECONDS: Final = 5.0  # without a record although some should be left: holes in the log
_RETRYING: Final = stamina.AsyncRetryingCaller(
    attempts=None, timeout=None, wait_initial=0.1, wait_max=2.0
)

_log = logging.getLogger(__name__)


class Source(Protocol):
    """What the processor needs of an event log."""

    def consumer(self, group: str) -> Consumer: ...

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None: ...


class Processor:
    """One member of the consumer group. `run` may be called again after it returned.

    Args:
        group: consumer group.
        new_batch: makes an empty batcher.
        limit: how many records may be set aside.
        empties_log: at a stop, finish what lies in the log, not only what was fetched.
        monotonic: seconds of a monotonic clock.
        clock: seconds since the epoch.
        doubts_all: look up every event by its id, whether it is marked or not.
    """

    name = "processor"

    def __init__(
        self,
        *,
        log: Source,
        store: EventStore,
        group: str,
        new_batch: Callable[[], Batcher],
        metrics: ProcessorMetrics,
        limit: DeadLetterLimit,
        empties_log: bool,
        monotonic: Callable[[], float],
        clock: Callable[[], float],
        doubts_all: bool = False,
    ) -> None:
        self._log, self._group = log, group
        self._insertion = Insertion(store, metrics, clock, monotonic, doubts_all=doubts_all)
        self._new_batch, self._batch = new_batch, new_batch()
        self._metrics, self._limit, self._empties_log = metrics, limit, empties_log
        self._monotonic = monotonic
        self._watch = Watch(store, metrics, clock, self._oldest)
        self._storing: asyncio.Task[None] | None = None  # what happens to the handed-over batch
        self._handed_over: list[Record] = []
        self._leaving = False  # the partitions are about to go
        self._stays = asyncio.Event()
        self._assignments = 0
        self.unread = 0  # records that a run to the end of the log has not read, or could not
        self._fault = "has not joined its consumer group yet; wait, or look at the event log"

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Consume until `stop`; then finish what was fetched, or what lies in the log."""
        self._batch, self._storing, self._handed_over = self._new_batch(), None, []
        self._stays.set()
        self._metrics.halted.set(0)
        consumer = self._log.consumer(self._group)
        try:
            await consumer.start(self)
            self._fault = ""
            async with self._watch.over(consumer):
                ready()
                try:
                    while not stop.is_set():
                        await self._step(consumer, self._batch.room)
                    await self._finish(consumer)
                except TooManyDeadLetters as error:
                    await self._halt(error, stop)
        finally:
            await consumer.stop()
            self._fault = "has stopped; start it again"

    async def ping(self) -> None:
        """Raises Retryable while it is in no group, and when it has stopped by itself."""
        if self._fault:
            raise Retryable(self._fault)

    async def assigned(self, assignment: Assignment) -> None:
        self._assignments += 1

    async def revoked(self) -> None:
        """What runs ends, its commit included; what was only fetched is forgotten."""
        self._leaving = True
        self._stays.clear()
        if self._storing:
            await asyncio.wait([self._storing])
        self._insertion.disown()
        self._batch = self._new_batch()
        self._leaving = False
        self._stays.set()

    async def _halt(self, error: TooManyDeadLetters, stop: asyncio.Event) -> None:
        """Keep the partitions and read nothing more: others would do no better."""
        _log.error("stopped consuming", extra={"error": str(error)})
        self._fault = str(error)
        self._metrics.halted.set(1)
        await stop.wait()

    async def _finish(self, consumer: Consumer) -> None:
        if self._empties_log:
            await self._read_to_end(consumer)
        await self._settled()
        self._hand_over(consumer)
        await self._settled()

    async def _read_to_end(self, consumer: Consumer) -> None:
        """Read what lies in the log now; after another assignment, what lies in it then."""
        assignments, idle = -1, 0.0
        while idle < IDLE_SECONDS:
            if assignments != self._assignments:
                assignments = self._assignments
                in_hand = len(self._batch) + len(self._handed_over)
                lag = await self._until_it_works(lambda _: consumer.lag())
                self.unread = max(0, lag - in_hand)
            if not self.unread:
                break
            fetched = await self._step(consumer, self.unread)
            self.unread -= fetched
            idle = 0.0 if fetched else idle + LISTEN_SECONDS

    async def _step(self, consumer: Consumer, most: int) -> int:
        """Fetch once, and hand the batch over if it is time; how many records came."""
        await self._stays.wait()
        if not self._batch.room:
            await self._settled()
            self._hand_over(consumer)
            return 0
        due_in = self._batch.due_in(self._monotonic())
        wait = LISTEN_SECONDS if self._storing else max(0.0, min(LISTEN_SECONDS, due_in))
        most = min(most, self._batch.room)
        # Nothing may be awaited between the fetch and the batch: `revoked` would miss it.
        records = await self._until_it_works(lambda _: consumer.fetch(most, wait))
        self._batch.add(records, self._monotonic())
        if self._storing and self._storing.done():
            await self._settled()
        if not self._storing and self._batch.is_due(self._monotonic()):
            self._hand_over(consumer)
        return len(records)

    def _hand_over(self, consumer: Consumer) -> None:
        """Begin to store the batch, unless it is about to go."""
        if self._leaving or not len(self._batch):
            return
        self._handed_over = self._batch.take()
        self._storing = asyncio.create_task(self._store(consumer, self._handed_over))

    async def _settled(self) -> None:
        """Wait for the batch that was handed over; a cancelled wait does not stop it.

        Raises:
            TooManyDeadLetters: it is not stored, and what comes after it should not be.
        """
        if self._storing:
            await asyncio.wait([self._storing])
            storing, self._storing = self._storing, None
            storing.result()
            self._handed_over = []

    async def _store(self, consumer: Consumer, records: Sequence[Record]) -> None:
        self._metrics.batch_events.observe(len(records))
        rows, letters = await asyncio.to_thread(read_records, records)
        allowed = self._limit.left(self._monotonic()) - len(letters)
        if allowed < 0:
            raise TooManyDeadLetters(self._limit.most, letters[-1].why)
        try:
            refused = await self._until_it_works(
                lambda again: self._insert(consumer, rows, again=again, most_refused=allowed),
                pauses=True,
            )
            if refused:
                by_position = {record.position: record for record in records}
                letters += [DeadLetter(by_position[row.position], why) for row, why in refused]
            await self._set_aside(letters)
            last = _last_positions(records)
            await self._until_it_works(lambda _: consumer.commit(last), pauses=True)
        except Retryable as error:  # and the partitions go: their next owner tries
            _log.warning("left a batch to the next owner", extra={"error": str(error)})
        except Conflict as error:
            _log.warning("not committed, will be skipped", extra={"error": str(error)})

    async def _insert(
        self, consumer: Consumer, rows: Sequence[StoredEvent], *, again: bool, most_refused: int
    ) -> list[Refused]:
        """Insert while the partitions are surely ours.

        A process that stood still (a paused machine) may have lost them: others have stored
        these rows by now.
        """
        asked = self._monotonic()
        until = asked + await consumer.confirm()
        return await asyncio.to_thread(
            self._insertion.insert, rows, again=again, most_refused=most_refused, until=until
        )

    async def _set_aside(self, letters: Sequence[DeadLetter]) -> None:
        if not letters:
            return
        told = {"count": len(letters), "error": letters[0].why}
        _log.warning("records set aside", extra=told)
        await self._until_it_works(lambda _: self._log.dead_letter(letters), pauses=True)
        self._limit.add(len(letters), self._monotonic())
        self._metrics.events.labels(Result.POISON).inc(len(letters))

    async def _until_it_works(
        self, work: Callable[[bool], Awaitable[T]], *, pauses: bool = False
    ) -> T:
        """Await `work(again)`, with back-off while it raises Retryable.

        Args:
            pauses: nothing goes on meanwhile. It is given up when the partitions go.
        """
        again = False

        async def attempt() -> T:
            nonlocal again
            try:
                if pauses and again and self._leaving:
                    raise Retryable("the partitions go to another processor")
                return await work(again)
            except Retryable:
                self._metrics.retries.inc()
                if pauses and not again:
                    self._metrics.pause(1)
                again = True
                raise

        try:
            return await _RETRYING(
                lambda error: isinstance(error, Retryable) and not (pauses and self._leaving),
                attempt,
            )
        finally:
            if pauses and again:
                self._metrics.pause(0)

    def _oldest(self) -> float:
        """When the log took the oldest record in hand; 0 where none is, or it is not known."""
        handed_over = min((record.appended_at for record in self._handed_over), default=0.0)
        return handed_over or self._batch.oldest()


def _last_positions(records: Sequence[Record]) -> list[Position]:
    last: dict[tuple[UUID, int], Position] = {}
    for record in records:  # in order within a partition
        at = record.position
        last[at.topic_id, at.partition] = at
    return list(last.values())

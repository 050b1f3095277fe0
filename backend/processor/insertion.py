"""Rows into the store, each at most once. Blocking: call it from a thread.

Two rules: a position that the store holds is skipped, and so is an event that
`Copies` knows.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from backend.metrics import ProcessorMetrics, Result
from backend.ports.event_store import EventStore, StoredEvent
from backend.processor.copies import Copies
from backend.processor.poison import TooManyDeadLetters
from extauthz.core.errors import Invalid, Retryable

_Partition = tuple[UUID, int]


class Refused(NamedTuple):
    """A row that the store cannot take as it is, and why."""

    row: StoredEvent
    why: str


class Insertion:
    """Knows which positions of the owned partitions may be stored already.

    What lies beyond a partition's greatest stored offset is new. Until a batch has passed
    it, the store is asked about the batch's own range, so that memory stays bounded however
    much is stored already.

    Args:
        clock: seconds since the epoch.
        monotonic: seconds of a monotonic clock.
        doubts_all: look up every event by its id, whether it is marked or not.
    """

    def __init__(
        self,
        store: EventStore,
        metrics: ProcessorMetrics,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        *,
        doubts_all: bool = False,
    ) -> None:
        self._store, self._metrics, self._clock = store, metrics, clock
        self._monotonic, self._until = monotonic, 0.0
        self._copies = Copies(store, doubts_all=doubts_all)
        self._last: dict[_Partition, int] = {}

    def disown(self) -> None:
        """Others store into the partitions from now on: what was learnt is void."""
        self._last.clear()
        self._copies.forget()

    def insert(
        self, batch: Sequence[StoredEvent], *, again: bool, most_refused: int, until: float
    ) -> list[Refused]:
        """Store what is not stored yet.

        Args:
            again: an earlier try failed and may have stored a part of this very batch.
            most_refused: rows that the store may refuse before it is not the rows' fault.
            until: monotonic seconds; nothing is begun to be inserted later, for the partitions
                may then be another's.

        Raises:
            Retryable: nothing is known about what was stored; call again with `again`.
            TooManyDeadLetters: the same, and another try would not help.
        """
        self._until = until
        is_stored = self._stored(batch, ask_always=again)
        new = self._copies.without(batch, is_stored)
        refused: list[Refused] = []
        with self._metrics.insert_seconds.time():
            self._insert(new, refused, most_refused)
        self._copies.remember(batch)
        count = self._metrics.events.labels
        count(Result.PRESENT).inc(len(is_stored))
        count(Result.RESENT).inc(len(batch) - len(is_stored) - len(new))
        count(Result.STORED).inc(len(new) - len(refused))
        return refused

    def _insert(
        self, batch: Sequence[StoredEvent], refused: list[Refused], most_refused: int
    ) -> None:
        """One insert; a batch that is refused is halved until the row at fault stands alone."""
        if not batch:
            return
        if self._monotonic() >= self._until:
            raise Retryable("the partitions may be another's by now; they are asked for again")
        try:
            self._store.insert(batch, self._until)
        except Invalid as error:
            if len(batch) == 1:
                refused.append(Refused(batch[0], str(error)))
                if len(refused) > most_refused:
                    raise TooManyDeadLetters(most_refused, str(error)) from error
                return
            # A refused insert may have stored the days before the one at fault.
            is_stored = self._stored(batch, ask_always=True)
            rest = [row for index, row in enumerate(batch) if index not in is_stored]
            middle = max(1, len(rest) // 2)
            self._insert(rest[:middle], refused, most_refused)
            self._insert(rest[middle:], refused, most_refused)

    def _stored(self, batch: Sequence[StoredEvent], *, ask_always: bool) -> set[int]:
        """Indexes of the rows whose positions the store holds."""
        present: dict[_Partition, frozenset[int]] = {}
        for partition, (first, last) in _ranges(batch).items():
            if partition not in self._last:
                self._learn(partition)
            if ask_always or first <= self._last[partition]:
                present[partition] = self._store.present(*partition, first, last)
        if not any(present.values()):
            return set()
        return {
            index
            for index, row in enumerate(batch)
            if row.log_offset in present.get((row.topic_id, row.log_partition), ())
        }

    def _learn(self, partition: _Partition) -> None:
        """The first rows since the partition was assigned: what did others store of it?"""
        self._copies.recall(*partition, datetime.fromtimestamp(self._clock(), UTC))
        self._last[partition] = self._store.last_offset(*partition)


def _ranges(batch: Sequence[StoredEvent]) -> dict[_Partition, tuple[int, int]]:
    """Least and greatest offset, by partition; offsets grow within one."""
    ranges: dict[_Partition, tuple[int, int]] = {}
    for row in batch:
        partition = (row.topic_id, row.log_partition)
        first, _ = ranges.get(partition, (row.log_offset, 0))
        ranges[partition] = (first, row.log_offset)
    return ranges

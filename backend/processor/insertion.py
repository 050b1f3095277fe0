"""Rows into the store, each at most once. Blocking: call it from a thread.

Two rules: a position that the store holds is skipped, and an event that its
producer marked as resent is looked up by event_id, in the store and in the batch.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from backend.metrics import ProcessorMetrics
from backend.ports import Assignment, DeadLetter, EventStore
from backend.processor.rows import Incoming
from extauthz.core.errors import Invalid

RESENT_WINDOW: Final = timedelta(days=1)  # how far a copy's time may lie from the first's


class Insertion:
    """Knows which positions of the owned partitions are stored already."""

    def __init__(self, store: EventStore, metrics: ProcessorMetrics) -> None:
        self._store, self._metrics = store, metrics
        self._present: dict[tuple[UUID, int], frozenset[int]] = {}

    def own(self, assignment: Assignment) -> None:
        """Ask what lies beyond the committed offset. Raises: Retryable."""
        self._ask(assignment.topic_id, assignment.partition, assignment.committed)

    def disown(self) -> None:
        self._present.clear()

    def insert(self, batch: Sequence[Incoming], *, again: bool) -> list[DeadLetter]:
        """Store what is not stored yet.

        Args:
            again: an earlier try failed and may have stored a part of this very batch.

        Returns:
            What the store cannot take as it is, and why.

        Raises:
            Retryable: nothing is known about what was stored; call again with `again`.
        """
        if again:
            self._ask_about(batch)
        fresh = [each for each in batch if not self._is_present(each)]
        new = self._without_known(fresh)
        letters: list[DeadLetter] = []
        with self._metrics.insert_seconds.time():
            self._insert(new, letters)
        count = self._metrics.events.labels
        count("present").inc(len(batch) - len(fresh))
        count("resent").inc(len(fresh) - len(new))
        count("stored").inc(len(new) - len(letters))
        return letters

    def _insert(self, batch: Sequence[Incoming], letters: list[DeadLetter]) -> None:
        """One insert; a batch that is refused is halved until the row at fault stands alone."""
        if not batch:
            return
        try:
            self._store.insert([each.row for each in batch])
        except Invalid as error:
            if len(batch) == 1:
                letters.append(DeadLetter(batch[0].record, str(error)))
                return
            # A refused insert may have stored the days before the one at fault.
            self._ask_about(batch)
            rest = [each for each in batch if not self._is_present(each)]
            middle = max(1, len(rest) // 2)
            self._insert(rest[:middle], letters)
            self._insert(rest[middle:], letters)

    def _without_known(self, batch: Sequence[Incoming]) -> list[Incoming]:
        """Drop copies of what is stored, or stands earlier in the batch."""
        resent = [each.row for each in batch if each.resent]
        if not resent:
            return list(batch)
        known = set(
            self._store.known_event_ids(
                [row.event_id for row in resent],
                min(row.event_time for row in resent) - RESENT_WINDOW,
                max(row.event_time for row in resent) + RESENT_WINDOW,
            )
        )
        suspects = {row.event_id for row in resent}
        kept = []
        for each in batch:
            event_id = each.row.event_id
            # An unmarked first may also come after its copy, within a batch.
            if event_id in suspects:
                if event_id in known:
                    continue
                known.add(event_id)
            kept.append(each)
        return kept

    def _ask_about(self, batch: Iterable[Incoming]) -> None:
        least: dict[tuple[UUID, int], int] = {}
        for each in batch:
            at = each.row.position
            key = (at.topic_id, at.partition)
            least[key] = min(at.offset, least.get(key, at.offset))
        for (topic_id, partition), offset in least.items():
            self._ask(topic_id, partition, offset)

    def _ask(self, topic_id: UUID, partition: int, from_offset: int) -> None:
        stored = self._store.present(topic_id, partition, from_offset, (1 << 63) - 1)
        key = (topic_id, partition)
        self._present[key] = self._present.get(key, frozenset()) | stored

    def _is_present(self, each: Incoming) -> bool:
        at = each.row.position
        return at.offset in self._present.get((at.topic_id, at.partition), ())

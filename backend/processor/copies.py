"""Which events were sent more than once, and which of the sendings is stored.

A copy is marked as resent. It is looked up by producer and event_id, in the store and in its
batch: an id that somebody else sent first must not hide an event.
The unmarked first sending may come after its copy, when an append that was given up is
done after all: the ids of copies are remembered, and such a late original is dropped.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from backend.ports.event_store import EventKey, EventStore, StoredEvent

# How far the time of a copy in the store may lie from that of the event.
LOOKUP_WINDOW: Final = timedelta(days=1)
# How old events are, at most, whose copies a new owner of a partition learns of.
MEMORY_WINDOW: Final = timedelta(days=1)
# Copies remembered, the latest: about 30 MB. An original comes within the minutes that an
# append may last, far sooner than so many copies.
MOST_REMEMBERED: Final = 100_000


class Copies:
    """Sorts copies out of batches. Blocking: call it from a thread.

    Args:
        doubts_all: look up every event, as if each were marked.
        most: copies that are remembered.
    """

    def __init__(
        self, store: EventStore, *, doubts_all: bool = False, most: int = MOST_REMEMBERED
    ) -> None:
        self._store, self._doubts_all, self._most = store, doubts_all, most
        self._remembered: OrderedDict[EventKey, None] = OrderedDict()  # as they came

    def recall(self, topic_id: UUID, partition: int, now: datetime) -> None:
        """Learn what earlier owners of the partition stored. Raises: Retryable."""
        self._remember(self._store.resent_events(topic_id, partition, now - MEMORY_WINDOW))

    def forget(self) -> None:
        self._remembered.clear()

    def remember(self, batch: Iterable[StoredEvent]) -> None:
        """The batch is stored: its copies' originals may still come."""
        self._remember(_key(row) for row in batch if row.resent)

    def without(
        self, batch: Sequence[StoredEvent], is_stored: AbstractSet[int]
    ) -> list[StoredEvent]:
        """What of the batch is to be stored: each event once.

        Args:
            is_stored: indexes of the rows whose very position the store holds.

        Raises:
            Retryable: the store is away.
        """
        marked = batch if self._doubts_all else [row for row in batch if row.resent]
        if not marked and not is_stored and self._are_new(batch):
            return list(batch)
        suspects = {_key(row) for row in marked}
        stored = self._known(marked)
        kept = []
        for index, row in enumerate(batch):
            key = _key(row)
            if index not in is_stored:
                # An unmarked twin of an unmarked event stays: nothing says it is the same.
                if key in (stored if key in suspects else self._remembered):
                    continue
                kept.append(row)
            stored.add(key)
        return kept

    def _are_new(self, batch: Sequence[StoredEvent]) -> bool:
        remembered = self._remembered
        return not remembered or remembered.keys().isdisjoint(map(_key, batch))

    def _known(self, marked: Sequence[StoredEvent]) -> set[EventKey]:
        if not marked:
            return set()
        times = [row.event_time for row in marked]
        since, until = min(times) - LOOKUP_WINDOW, max(times) + LOOKUP_WINDOW
        return set(self._store.known_events([_key(row) for row in marked], since, until))

    def _remember(self, keys: Iterable[EventKey]) -> None:
        for key in keys:
            self._remembered[key] = None
            self._remembered.move_to_end(key)
            if len(self._remembered) > self._most:
                self._remembered.popitem(last=False)


def _key(row: StoredEvent) -> EventKey:
    return row.producer, row.event_id

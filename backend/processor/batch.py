"""When a batch is full or old enough. Pure: the caller brings the time."""

from collections.abc import Sequence

from backend.ports.event_log import Record


class Batcher:
    """Gathers records until one of three bounds is reached.

    Args:
        max_events: as few as this many are due at once.
        max_bytes: of record values.
        flush_seconds: age of the oldest record at which the batch is due.
    """

    def __init__(self, *, max_events: int, max_bytes: int, flush_seconds: float) -> None:
        self._max_events, self._max_bytes = max_events, max_bytes
        self._flush_seconds = flush_seconds
        self._records: list[Record] = []
        self._bytes = 0
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._records)

    @property
    def room(self) -> int:
        """How many events still fit."""
        if self._bytes >= self._max_bytes:
            return 0
        return max(0, self._max_events - len(self._records))

    def add(self, records: Sequence[Record], now: float) -> None:
        """Put more in.

        Args:
            now: seconds of any monotonic clock.
        """
        if not self._records:
            self._since = now
        self._records += records
        self._bytes += sum(len(record.value) for record in records)

    def is_due(self, now: float) -> bool:
        return bool(self._records) and (not self.room or self.due_in(now) <= 0)

    def due_in(self, now: float) -> float:
        """Seconds until the batch is due by age; `flush_seconds` when it is empty."""
        if not self._records:
            return self._flush_seconds
        return self._since + self._flush_seconds - now

    def oldest(self) -> float:
        """When the log took the first of its records, by the log's clock; 0 when not known."""
        return min((record.appended_at for record in self._records), default=0.0)

    def take(self) -> list[Record]:
        """Hand the batch out and start anew."""
        taken, self._records, self._bytes = self._records, [], 0
        return taken

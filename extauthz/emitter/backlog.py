"""The queue in memory: bounded; it numbers what is offered and joins outcomes to calls.

The thread that answers puts calls in, the event loop does all the rest.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from extauthz.core.decision import Decision
from extauthz.core.events import Asked, Decided, EventType, Outcome, outcome_payload
from extauthz.emitter.entries import Call, Dropped, Notice
from extauthz.emitter.mark import Mark
from extauthz.emitter.options import EmitterOptions

Clock = Callable[[], float]


class Backlog:
    """Events in the order of their sequence, each until it may leave.

    Args:
        options: bounds and waits.
        mark: where sequences come from.
        clock: seconds since the epoch.
        monotonic: seconds for waits; never set back.
        new_id: makes a UUIDv7.

    Attributes:
        hurry: events leave without waiting for outcomes (draining).
        size: events in the queue.
        dropped: events lost for want of room.
        joined, late: outcomes joined, and sent on alone.
        running: allowed calls whose end is not known; the oldest are forgotten beyond the bound.
    """

    def __init__(
        self,
        options: EmitterOptions,
        mark: Mark,
        clock: Clock,
        monotonic: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._mark, self._clock, self._monotonic, self._new_id = mark, clock, monotonic, new_id
        self._capacity = options.queue_max_events
        # Once full, a batch's worth of room comes first: one gap, not one for each other event.
        self._resume_below = max(self._capacity - options.batch_max_events, self._capacity // 2, 1)
        self._wait = options.completion_wait_seconds
        self._flush = min(options.flush_seconds, self._wait)
        self._held = options.durable
        # For all that both threads change: sequences, entries, size, open calls.
        self._lock = threading.Lock()
        self._entries: deque[Call | Notice | Dropped] = deque()
        self._open: dict[str, Call] = {}  # calls without outcome, also those that left already
        self._full = False
        self.hurry = False
        self.size = self.dropped = self.joined = self.late = self.running = 0

    def calls(self, decided: Sequence[Decided]) -> list[Call | None]:
        """Offer decided calls, which have their ids; None for each that finds no room."""
        at, since = self._clock(), self._monotonic()
        with self._lock:
            return [self._call(asked, decision, at, since) for asked, decision in decided]

    def _call(self, asked: Asked, decision: Decision, at: float, since: float) -> Call | None:
        sequence = self._mark.take()
        if not self._has_room(sequence):
            return None
        runs = decision.allowed
        call = Call(sequence, at, since, asked, decision, runs, held=self._held)
        self._entries.append(call)
        self.size += 1
        self.running += runs
        self._open[decision.id] = call
        if len(self._open) > self._capacity:  # forget the longest-running stream
            self._close(next(iter(self._open)))
        return call

    def _close(self, decision_id: str) -> Call | None:
        call = self._open.pop(decision_id, None)
        if call is not None:
            self.running -= call.runs
        return call

    def notice(
        self, event_type: str, payload: dict[str, Any], trace_id: str = "", *, always: bool = False
    ) -> tuple[int, str]:
        """Offer any other event.

        Args:
            event_type, payload, trace_id: as in `Notice`.
            always: take it beyond the bound (a gap, of which there are few).

        Returns:
            Its sequence and its event_id.
        """
        event_id, at, since = self._new_id(), self._clock(), self._monotonic()
        with self._lock:
            sequence = self._mark.take()
            if always or self._has_room(sequence):
                entry = Notice(sequence, at, since, event_id, event_type, payload, trace_id)
                self._entries.append(entry)
                self.size += 1
        return sequence, event_id

    def outcome(self, decision_id: str, outcome: Outcome) -> Call | None:
        """Join an outcome to its call, or send it on where the call has left.

        Returns:
            The call, once, as long as it is remembered.
        """
        with self._lock:
            call = self._close(decision_id)
        if call is not None and not call.left:
            call.outcome = outcome
            self.joined += 1
            return call
        self.late += 1
        payload = {"decision_id": decision_id, "request_id": ""}
        trace_id = ""
        if call is not None:
            payload["request_id"], trace_id = call.asked.request_id, call.asked.trace_id
        self.notice(EventType.RESPONSE, payload | outcome_payload(outcome), trace_id)
        return call

    def _has_room(self, sequence: int) -> bool:
        if self._full:
            self._full = self.size >= self._resume_below
        elif self.size >= self._capacity:
            self._full = True
        if self._full:
            self.dropped += 1
            last = self._entries[-1] if self._entries else None
            if isinstance(last, Dropped):  # nothing came between: the run grows
                last.last = sequence
            else:
                self._entries.append(Dropped(sequence, sequence))
        return not self._full

    @property
    def head(self) -> int:
        """The lowest sequence that is still here; the next one when nothing is."""
        with self._lock:
            return self._entries[0].sequence if self._entries else self._mark.next_sequence

    @property
    def is_empty(self) -> bool:
        """Whether neither events nor drops are left to tell of."""
        return not self._entries

    @property
    def is_crowded(self) -> bool:
        return self.size > self._capacity // 2

    def has_ready(self) -> bool:
        return bool(self._entries) and self._may_leave(self._entries[0], self._monotonic())

    def take(self, limit: int) -> list[Call | Notice]:
        """Take what may leave, oldest first, up to the first that may not, or a drop."""
        now = self._monotonic()
        taken: list[Call | Notice] = []
        with self._lock:
            while self._entries and len(taken) < limit:
                entry = self._entries[0]
                if isinstance(entry, Dropped) or not self._may_leave(entry, now):
                    break
                self._entries.popleft()
                if isinstance(entry, Call):
                    entry.left = True
                taken.append(entry)
            self.size -= len(taken)
        return taken

    def take_drops(self) -> list[Dropped]:
        """Take the drops at the head: all before them has left."""
        taken: list[Dropped] = []
        with self._lock:
            while self._entries and isinstance(entry := self._entries[0], Dropped):
                self._entries.popleft()
                taken.append(entry)
        return taken

    def put_back(self, entries: Sequence[Call | Notice]) -> None:
        """Return what was taken last: it could not leave after all."""
        with self._lock:
            self._entries.extendleft(reversed(entries))
            self.size += len(entries)

    def _may_leave(self, entry: Call | Notice | Dropped, now: float) -> bool:
        if isinstance(entry, Dropped) or self.hurry:
            return True
        if isinstance(entry, Call) and entry.held:
            return False
        age = now - entry.since
        if self.is_crowded:
            return True
        if age < self._flush:
            return False
        if isinstance(entry, Notice) or entry.outcome is not None:
            return True
        return age >= self._wait or not entry.decision.allowed

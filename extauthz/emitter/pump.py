"""The pump: moves events from memory to ingest, and by way of the disk when ingest is away.

One task makes all moves, one after the other; only the request to ingest runs beside it.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from extauthz.core.events import Cause, EventType
from extauthz.emitter.backlog import Backlog
from extauthz.emitter.debts import Debts
from extauthz.emitter.disk import Disk
from extauthz.emitter.entries import Call, Encoder, Gap, Line, Notice, fitting
from extauthz.emitter.ingest import Ingest
from extauthz.emitter.options import EmitterOptions
from extauthz.emitter.recovery import Takeover
from extauthz.emitter.reserve import Reserve

_log = logging.getLogger(__name__)
_ENCODE_SLICE = 50  # events written between two turns of the event loop


@dataclass(slots=True)
class _Flight:
    """A batch on its way. `spooled`: it lies in the spool too."""

    task: "asyncio.Task[list[Line]]"
    lines: list[Line]
    since: float
    spooled: bool


class Pump:
    """Empties the backlog.

    Args:
        options: see there.
        takeover: this start.
        backlog, disk, ingest: where events come from, by way of, and go to.
        monotonic: seconds, never set back.
        heartbeat: makes the payload of the next `gateway.heartbeat`.

    Attributes:
        sent, resent: events that ingest accepted; those of them that were marked.
        refused, unencodable: events dropped for that cause.
        faults: unexpected errors.
    """

    def __init__(
        self,
        options: EmitterOptions,
        takeover: Takeover,
        *,
        backlog: Backlog,
        disk: Disk,
        ingest: Ingest,
        monotonic: Callable[[], float],
        heartbeat: Callable[[], dict[str, Any]],
    ) -> None:
        self._options, self._mark = options, takeover.mark
        self._ordinal, self._starts = takeover.ordinal, takeover.starts
        self._backlog, self._disk, self._ingest = backlog, disk, ingest
        self._monotonic, self._heartbeat = monotonic, heartbeat
        self._encoder = Encoder(options, takeover.mark.gateway_start)
        self._debts = Debts()
        self._flight: _Flight | None = None
        self._spill_limit = options.batch_max_events
        self._beat_at = monotonic() + options.heartbeat_seconds
        self._stopping = asyncio.Event()
        self._reserve = Reserve(takeover.mark)
        self._moving = 0  # events between backlog and flight or disk
        self.sent = self.resent = self.refused = self.unencodable = self.faults = 0

    @property
    def in_flight(self) -> int:
        """Events on their way that are not in the spool."""
        return 0 if self._flight is None or self._flight.spooled else len(self._flight.lines)

    @property
    def pending(self) -> int:
        """Events that are in memory alone, the backlog's aside."""
        return self.in_flight + self._moving

    async def run(self) -> None:
        """Work until `drain` ends it."""
        while not self._stopping.is_set():
            await self._supervised_step()

    async def drain(self, worker: "asyncio.Task[None]", seconds: float) -> None:
        """End `worker` (which runs `run`), then send or spool all that is left.

        What neither takes stays above the mark, so that the next start tells of it.
        """
        self._stopping.set()
        await worker
        self._backlog.hurry = True
        until = self._monotonic() + seconds / 2
        while self._monotonic() < until and not self._ingest.away:
            if self._flight is None and self._backlog.is_empty:
                break
            await self._supervised_step()
        await self._abort_flight()
        for gap in self._debts.take_owed():
            self._tell(gap)
        self._tell_drops()
        while (self._backlog.size or self.in_flight) and await self._spill():
            self._tell_drops()
        self._settle()
        await self._reserve.finish(seconds / 4)
        if left := self._backlog.size + self.in_flight:
            _log.error("stopped with events neither sent nor spooled", extra={"count": left})

    async def _supervised_step(self) -> None:
        try:
            await self._step()
        except Exception:  # a bug must not end the audit trail: say so, and go on
            self.faults += 1
            _log.exception("the audit pump stumbled")
            await asyncio.sleep(self._options.flush_seconds)

    async def _step(self) -> None:
        self._beat()
        self._reserve.look()
        self._tell_drops()
        if self._flight is None:
            await self._take_off()
        await self._pause()
        if self._flight is not None and self._flight.task.done():
            await self._land(self._flight)
        while self._must_spill() and await self._spill():
            self._settle()
            if self._flight is None or self._flight.task.done():
                break
        self._settle()

    async def _pause(self) -> None:
        """Wait for the request, at most for a flush."""
        seconds = self._options.flush_seconds
        if self._flight is not None:
            await asyncio.wait({self._flight.task}, timeout=seconds)
        elif not self._stopping.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()
            except TimeoutError:
                pass

    def _beat(self) -> None:
        """Offer the heartbeat, and the gaps of refused events.

        Those come no sooner, so that a gap which is refused in its turn cannot spin.
        """
        now = self._monotonic()
        if now < self._beat_at:
            return
        self._beat_at = now + self._options.heartbeat_seconds
        self._backlog.notice(EventType.GATEWAY_HEARTBEAT, self._heartbeat())
        for gap in self._debts.take_owed():
            self._tell(gap)

    def _tell(self, gap: Gap) -> None:
        sequence, _ = self._backlog.notice(EventType.AUDIT_GAP, gap.to_payload(), always=True)
        self._debts.told(sequence, gap)

    def _tell_drops(self) -> None:
        for drop in self._backlog.take_drops():
            self._tell(self._own_gap(drop.sequence, drop.last, Cause.QUEUE_FULL))

    def _own_gap(self, first: int, last: int, cause: Cause) -> Gap:
        return Gap(self._mark.gateway_start, first, last, cause)

    async def _take_off(self) -> None:
        """Send the next batch: what is on disk comes first."""
        limit, max_bytes = self._options.batch_max_events, self._options.batch_max_bytes
        lines = await self._disk.oldest(limit, max_bytes)
        spooled = bool(lines)
        if not lines:
            entries = self._take(limit)
            lines = await self._encode(entries)
            fit = fitting(lines, max_bytes)
            if fit < len(lines):
                first = lines[fit].sequence
                self._backlog.put_back([entry for entry in entries if entry.sequence >= first])
                del lines[fit:]
        if lines:
            self._flight = _Flight(self._deliver(lines), lines, self._monotonic(), spooled)
        self._moving = 0

    def _take(self, limit: int) -> list[Call | Notice]:
        entries = self._backlog.take(limit)
        self._moving = len(entries)
        return entries

    def _deliver(self, lines: list[Line]) -> "asyncio.Task[list[Line]]":
        return asyncio.create_task(self._ingest.deliver(lines), name="deliver events")

    async def _land(self, flight: _Flight) -> None:
        """Account for a batch that ingest has answered."""
        if error := flight.task.exception():
            for line in flight.lines:
                line.resent = True
            flight.task = self._deliver(flight.lines)
            raise error
        refused = flight.task.result()
        gone = {line.sequence for line in refused}
        accepted = [line for line in flight.lines if line.sequence not in gone]
        for line in refused:
            self._debts.refuse(line, self._starts[line.start], own=line.start == self._ordinal)
        for line in accepted:
            await self._arrived(line)
        if flight.spooled:
            last = flight.lines[-1]
            await self._disk.finish((last.start, last.sequence), refused)
        self._flight = None
        self.sent += len(accepted)
        self.resent += sum(line.resent for line in accepted)
        self.refused += len(refused)

    async def _arrived(self, line: Line) -> None:
        """An event is sent or spooled: the gap that it tells of needs no more remembering."""
        if line.start == self._ordinal:
            gap = self._debts.settle(line.sequence)
            if gap is not None and gap.cause is Cause.REFUSED:
                await self._disk.forget(gap)

    async def _abort_flight(self) -> None:
        """End the request; what it carried and did not bring home is spooled next."""
        flight = self._flight
        if flight is None:
            return
        flight.task.cancel()
        await asyncio.wait({flight.task})
        if not flight.task.cancelled() and flight.task.exception() is None:
            await self._land(flight)

    def _must_spill(self) -> bool:
        if self._disk.is_resting or not (self.in_flight or self._backlog.has_ready()):
            return False
        if self._ingest.away or self._backlog.is_crowded:
            return True
        flight = self._flight
        return bool(flight and self._monotonic() - flight.since > self._options.slow_seconds)

    async def _spill(self) -> bool:
        """Write the batch on its way, and what may leave memory, to the spool.

        Returns:
            Whether memory is the emptier for it.
        """
        flight = self._flight if self.in_flight else None
        entries = self._take(self._spill_limit)
        lines = await self._encode(entries)
        fresh = {line.sequence for line in lines}
        if flight is not None:
            lines = [*flight.lines, *lines]
        if not lines:
            self._moving = 0
            return bool(entries)
        if not await self._disk.append(lines):
            self._backlog.put_back([entry for entry in entries if entry.sequence in fresh])
            self._moving = 0
            self._spill_limit = max(self._spill_limit // 2, 1)
            return False
        self._spill_limit = self._options.batch_max_events
        self._moving = 0
        if flight is not None:
            flight.spooled = True
        for line in lines:
            await self._arrived(line)
        return True

    async def _encode(self, entries: Sequence[Call | Notice]) -> list[Line]:
        lines = []
        for place, entry in enumerate(entries, 1):
            try:
                lines.append(Line(self._ordinal, entry.sequence, self._encoder.encode(entry)))
            except Exception as error:  # whatever it is, it costs this event alone
                told = {"sequence": entry.sequence, "error": type(error).__name__}
                _log.error("an event cannot be written", extra=told)
                self._moving -= 1
                self.unencodable += 1
                self._debts.owe(self._own_gap(entry.sequence, entry.sequence, Cause.UNENCODABLE))
            if place % _ENCODE_SLICE == 0:
                await asyncio.sleep(0)
        return lines

    def _settle(self) -> None:
        """Move the mark up to the first event that is neither sent, spooled nor told."""
        lowest = self._backlog.head
        if self._flight is not None and not self._flight.spooled:
            lowest = min(lowest, self._flight.lines[0].sequence)
        owed = self._debts.lowest(self._mark.gateway_start)
        self._mark.settle(lowest if owed is None else min(lowest, owed))

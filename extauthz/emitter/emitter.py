"""The emitter: what the server calls for each decision and each outcome."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from extauthz.core.decision import Decision
from extauthz.core.events import Cause, Decided, EventType, Outcome
from extauthz.emitter.backlog import Backlog
from extauthz.emitter.committer import Committer, unrecorded
from extauthz.emitter.counts import CAUSES, Counts
from extauthz.emitter.disk import Disk
from extauthz.emitter.entries import Encoder
from extauthz.emitter.ingest import Ingest
from extauthz.emitter.journal import Journal
from extauthz.emitter.options import EmitterOptions
from extauthz.emitter.pump import Pump
from extauthz.emitter.recovery import Takeover, take_over


class _Running:
    """The parts that exist between start and stop."""

    def __init__(
        self,
        options: EmitterOptions,
        takeover: Takeover,
        thread: ThreadPoolExecutor,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        heartbeat: Callable[[], dict[str, Any]],
    ) -> None:
        monotonic = time.monotonic  # for any thread, as a loop's own clock is not
        self.takeover, self.mark = takeover, takeover.mark
        self.backlog = Backlog(options, self.mark, clock, monotonic, new_id)
        self.disk = Disk(thread, takeover.spool, monotonic)
        self.committer: Committer | None = None
        if options.durable:
            start = self.mark.gateway_start
            journal = Journal(options.spool_folder, start, options.journal_max_bytes)
            self.committer = Committer(journal, self.mark, Encoder(options, start), monotonic)
        self.ingest = Ingest(options, monotonic)
        self.pump = Pump(
            options,
            takeover,
            backlog=self.backlog,
            disk=self.disk,
            ingest=self.ingest,
            monotonic=monotonic,
            heartbeat=heartbeat,
        )
        self.worker = asyncio.create_task(self.pump.run(), name="audit pump")

    async def close(self) -> None:
        await self.ingest.close()
        await self.disk.close()
        if self.committer:
            await asyncio.to_thread(self.committer.close)
        self.mark.close()


class Emitter:
    """Takes events without waiting, and sends them as ingest can take them.

    Args:
        options: see there.
        clock: seconds since the epoch.
        new_id: makes a UUIDv7, as text.
    """

    def __init__(
        self,
        options: EmitterOptions,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._options, self._clock, self._new_id = options, clock, new_id
        self._running: _Running | None = None
        self._stopping = False

    async def start(self, policy_revision: str = "") -> None:
        """Take over from the previous process and begin to send.

        Args:
            policy_revision: told in `gateway.start`; empty when no policy is there yet.

        Raises:
            Invalid: the spool folder cannot be used, or another process uses it.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        try:
            takeover = await asyncio.get_running_loop().run_in_executor(
                thread, take_over, self._options, self._clock, self._new_id
            )
        except BaseException:
            thread.shutdown(wait=False)
            raise
        self._running = running = _Running(
            self._options,
            takeover,
            thread,
            clock=self._clock,
            new_id=self._new_id,
            heartbeat=self._heartbeat,
        )
        payload: dict[str, Any] = {
            "versions": dict(self._options.versions),
            "heartbeat_seconds": self._options.heartbeat_seconds,  # when to count it as silent
        }
        if policy_revision:
            payload["policy_revision"] = policy_revision
        if previous := takeover.previous:  # so that the tail which it lost can be seen
            payload["previous_gateway_start"] = previous.gateway_start
            payload["previous_next_sequence"] = previous.next_sequence
        running.backlog.notice(EventType.GATEWAY_START, payload)

    def record(self, decided: Sequence[Decided]) -> list[Decision]:
        """Take the events of decisions. Best effort never waits and never refuses.

        Durable waits for the disk, whatever the method and the decision: an answer that is
        not recorded leaves no more than this very fact. For one thread, any.

        Returns:
            Each decision with its id, which is the event's; durable, a denial
            (audit_unavailable) where the disk does not take it.
        """
        parts, new_id = self._parts, self._new_id
        named = [(asked, decision.identified(new_id())) for asked, decision in decided]
        calls = parts.backlog.calls(named)
        if parts.committer is None:
            return [decision for _, decision in named]
        parts.committer.commit([call for call in calls if call])
        return [
            call.decision if call else unrecorded(decision)
            for call, (_, decision) in zip(calls, named, strict=True)
        ]

    def outcome(self, decision_id: str, outcome: Outcome) -> Decided | None:
        """Take how a call ended. Never waits.

        Returns:
            The call, once, as long as it is remembered.
        """
        call = self._parts.backlog.outcome(decision_id, outcome)
        return (call.asked, call.decision) if call else None

    def offer(self, event_type: str, payload: dict[str, Any], trace_id: str = "") -> str:
        """Take any other event; gateway, gateway_start and sequence are added.

        Returns:
            Its event_id.
        """
        return self._parts.backlog.notice(event_type, payload, trace_id)[1]

    async def stop(self, seconds: float) -> None:
        """Send or spool all that was taken, within `seconds`, and close. A second call is idle.

        Nothing may be offered once it has returned.
        """
        running = self._running
        if running is None or self._stopping:
            return
        self._stopping = True
        try:
            await running.pump.drain(running.worker, seconds)
        finally:
            self._running = None
            await running.close()

    @property
    def gateway_start(self) -> str:
        return self._parts.mark.gateway_start

    def counts(self) -> Counts:
        """What became of the events so far; cheap, for the event loop's thread."""
        parts = self._parts
        backlog, disk, pump, ingest = parts.backlog, parts.disk, parts.pump, parts.ingest
        dropped = dict.fromkeys(CAUSES, 0)
        for gap in parts.takeover.gaps:
            if gap.cause is not Cause.REFUSED:  # counted where it was refused
                dropped[gap.cause] += gap.count
        dropped[Cause.QUEUE_FULL] = backlog.dropped
        dropped[Cause.REFUSED] = pump.refused
        dropped[Cause.UNENCODABLE] = pump.unencodable
        committer = parts.committer
        return Counts(
            offered=parts.mark.next_sequence - 1,
            recovered=parts.takeover.recovered,
            sent=pump.sent,
            resent=pump.resent,
            spooled=disk.count,
            pending=backlog.size + pump.pending,
            dropped=dropped,
            joined=backlog.joined,
            late=backlog.late,
            running=backlog.running,
            spool_bytes=disk.bytes + (committer.bytes if committer else 0),
            faults=parts.takeover.faults
            + pump.faults
            + disk.faults
            + (committer.faults if committer else 0),
            away=ingest.away,
        )

    def _heartbeat(self) -> dict[str, Any]:
        counts = self.counts()
        return {
            "next_sequence": counts.offered + 2,  # beyond the heartbeat's own
            "offered": counts.offered,
            "sent": counts.sent,
            "spooled": counts.spooled,
            "dropped": sum(counts.dropped.values()),
        }

    @property
    def _parts(self) -> _Running:
        if self._running is None:
            raise RuntimeError("the emitter is not running")
        return self._running

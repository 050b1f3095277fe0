"""Policy source `stream`: follows the controller, for ever."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import stamina

from extauthz.core.manifests import Fault
from extauthz.core.times import format_instant
from extauthz.sources.policies import Policies
from extauthz.sources.stream.assembly import says_nothing
from extauthz.sources.stream.counts import Counts, StreamCollector
from extauthz.sources.stream.failures import Away, Ended, ended, never_whole, stumbled
from extauthz.sources.stream.intake import Intake
from extauthz.sources.stream.link import Link, Stream
from extauthz.sources.stream.options import StreamOptions
from protos.gen.policy_stream_pb2 import FollowRequest

_log = logging.getLogger(__name__)

_STEADY_SECONDS: Final = 1.0  # a stream that lived so long is followed by another one at once


class StreamSource:
    """Keeps `policies` to what the controller says; the last good one while it is away.

    Args:
        options: where it is, and the bounds.
        policies: where the snapshot goes.
        clock: seconds since the epoch.

    Attributes:
        connected: whether the controller is listened to, and has said something.
    """

    def __init__(
        self, options: StreamOptions, policies: Policies, clock: Callable[[], float]
    ) -> None:
        self._options, self._policies, self._clock = options, policies, clock
        self._counts = Counts()
        self._intake = Intake(options, policies, clock, self._counts)
        self._link = Link(options)
        self._away: Away | None = None
        self._last_error = ""
        self._connected_at = 0.0
        self._controller = ""
        self.connected = False

    @property
    def name(self) -> str:
        return f"stream {self._options.address}"

    @property
    def collector(self) -> StreamCollector:
        """Its metrics."""
        return StreamCollector(self._counts, lambda: self.connected, self._age)

    async def look(self) -> None:
        """Read what the process before this one kept.

        It decides once nothing newer can be had: the controller confirms it, or is away.
        """
        await self._intake.load()
        self._report()

    async def follow(self, stop: asyncio.Event) -> None:
        """Follow the controller until `stop` is set."""
        following = asyncio.create_task(self._keep_following(), name="follow the controller")
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([following, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (following, stopped):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await following
            await self._link.close()
            await self._intake.close()

    def describe(self) -> Mapping[str, Any]:
        """For people."""
        options = self._options
        return {
            "address": options.address,
            "connected": self.connected,
            "controller": self._controller,
            "connected_at": format_instant(self._connected_at) if self.connected else "",
            "revision": self._intake.revision,
            "confirmed_at": _instant(self._policies.current.confirmed_at),
            "attempts": self._counts.attempts,
            "updates": self._counts.describe(),
            "last_error": self._last_error,
        }

    def _age(self) -> float | None:
        current = self._policies.current
        return max(self._clock() - current.confirmed_at, 0.0) if current.policy else None

    async def _keep_following(self) -> None:
        while True:
            async for attempt in stamina.retry_context(
                on=Away,
                attempts=None,
                timeout=None,
                wait_initial=0.05,
                wait_max=self._options.retry_max_seconds,
                wait_jitter=min(0.2, self._options.retry_max_seconds),
            ):
                with attempt:
                    await self._follow_once()

    async def _follow_once(self) -> None:
        """One stream, to its end; returns where another one is due at once.

        Raises:
            Away: where it is due after a pause.
        """
        begun = monotonic()
        self._counts.attempts += 1
        self._intake.begin()
        try:
            async with self._link.open(self._intake.revision) as stream:
                await self._listen(stream)
        except Ended:
            away = Away(ended(self._options))
        except Away as end:
            away = end
        except Exception:  # a bug must not end the decision point: what runs goes on
            _log.exception("the policy stream stumbled")
            self._intake.forget()
            away = Away(stumbled(self._options))
        was_connected, self.connected = self.connected, False
        if was_connected and monotonic() - begun >= _STEADY_SECONDS:
            _log.info("policy stream ended", extra={"error": str(away)})
            return
        self._fail(away)
        raise away

    def _fail(self, away: Away) -> None:
        if self._away is None or self._away.kind != away.kind:
            self._away = away
        self._last_error = str(away)
        self._intake.run_kept()
        self._report()

    async def _listen(self, stream: Stream) -> None:
        options, intake = self._options, self._intake
        seconds, begun = options.first_answer_seconds, 0.0
        while True:
            message = await stream.receive(seconds)
            answer = await intake.take(message)
            if not intake.pending:
                begun = 0.0
            elif not begun:
                begun = monotonic()
            elif monotonic() - begun > options.update_seconds:
                raise Away(never_whole(options))
            seconds = options.silence_seconds
            if not self.connected:
                await self._connect(stream)
            if says_nothing(message):
                intake.run_kept()  # nothing newer can be had
            if answer is None:
                continue
            if answer.error:
                self._last_error = answer.error
                intake.run_kept()
            self._report()
            await stream.send(FollowRequest(acknowledgement=answer), seconds)

    async def _connect(self, stream: Stream) -> None:
        """The controller has said something."""
        self._controller = await stream.controller()
        self._away, self.connected, self._connected_at = None, True, self._clock()
        _log.info("policy stream follows", extra={"controller": self._controller})

    def _report(self) -> None:
        """What is wrong now."""
        refused = self._intake.refused
        found = [self._away.fault if self._away else None, self._intake.unkept]
        if refused:
            found.append(Fault(self.name, 0, refused.field, refused.problem, refused.mend))
        self._policies.report(tuple(each for each in found if each))


def _instant(seconds: float) -> str:
    return format_instant(seconds) if seconds else ""

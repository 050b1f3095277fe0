"""Which replica leads: the one that holds the lease, by the algorithm of Kubernetes' own.

A lease that nobody renewed for its time, as seen by this replica's own clock, may be taken; the
API server lets one of those who try win. Its holder renews it at half time, and gives it back when
it ends. A holder that cannot renew it in time is in doubt: nobody else may have it either.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from enum import Enum
from typing import Final

from backend.ports.control_plane import ControlPlane, Lease
from extauthz.core.errors import Conflict, Retryable, SentinelError

RETRY_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.2  # between two watches

_log = logging.getLogger(__name__)


class Standing(Enum):
    """What a replica may do."""

    STANDBY = "standby"
    LEADS = "leads"
    DOUBT = "doubt"  # it led, and does not know whether it still does


class Election:
    """A unit: takes part for as long as it runs.

    Args:
        name: of this replica, unlike any other's.
        lease_seconds: after so long without a sign of the leader another takes over.
        changed: called when `standing` has changed.
        monotonic: seconds.

    Attributes:
        standing: of this replica.
        leader: who leads, as far as is known; empty where nobody does.
    """

    name = "election"

    def __init__(
        self,
        control: ControlPlane,
        name: str,
        *,
        lease_seconds: int,
        changed: Callable[[], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._control, self._me, self._seconds = control, name, lease_seconds
        self._changed, self._monotonic = changed, monotonic
        self._fault = ""
        self.standing, self.leader = Standing.STANDBY, ""

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        ready()
        part = asyncio.create_task(self._take_part(), name="lease")
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({part, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if part.done():
            part.result()
        part.cancel()
        with suppress(asyncio.CancelledError):
            await part

    async def _take_part(self) -> None:
        while True:
            try:
                lease = await self._wait_for_turn()
                await self._lead(await self._take(lease))
            except Conflict:
                continue  # somebody else was quicker
            except SentinelError as error:
                if self._fault != str(error):
                    _log.warning("the lease cannot be asked for", extra={"error": str(error)})
                self._fault = str(error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _wait_for_turn(self) -> Lease | None:
        """Return the lease once it may be taken; None where there is none yet."""
        lease = await self._control.lease()
        seen_at = asyncio.get_running_loop().time()
        async with aclosing(self._changes()) as changes:
            while lease is not None and lease.holder not in {"", self._me}:
                self._stand(Standing.STANDBY, lease.holder)
                try:
                    async with asyncio.timeout_at(seen_at + max(lease.seconds, 1)):
                        now = await anext(changes)
                except TimeoutError:
                    return await self._control.lease()
                if now != lease:
                    lease, seen_at = now, asyncio.get_running_loop().time()
        return lease

    async def _changes(self) -> AsyncGenerator[Lease, None]:
        """Without end."""
        while True:
            async with aclosing(self._control.lease_changes()) as changes:
                async for lease in changes:
                    yield lease
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _take(self, lease: Lease | None) -> Lease:
        before = lease or Lease("", 0, "", "", 0)
        changes = before.holder != self._me
        return await self._control.write_lease(
            replace(
                before,
                holder=self._me,
                seconds=self._seconds,
                acquired_at="" if changes else before.acquired_at,
                transitions=before.transitions + changes,
            )
        )

    async def _lead(self, lease: Lease) -> None:
        """Lead until somebody else does."""
        renewed, self._fault = self._monotonic(), ""
        self._stand(Standing.LEADS, self._me)
        try:
            while True:
                is_sure = self.standing is Standing.LEADS
                await asyncio.sleep(self._seconds / 2 if is_sure else RETRY_SECONDS)
                began = self._monotonic()
                try:
                    async with asyncio.timeout(self._seconds / 2):
                        lease = await self._control.write_lease(lease)
                except Conflict:
                    found = await self._control.lease()
                    if found is None or found.holder != self._me:
                        self._stand(Standing.STANDBY, found.holder if found else "")
                        return
                    lease = found
                except (Retryable, TimeoutError) as error:
                    if self._monotonic() - renewed >= self._seconds:
                        self._stand(Standing.DOUBT, self._me, str(error))
                else:
                    renewed = began
                    self._stand(Standing.LEADS, self._me)
        except asyncio.CancelledError:
            self._stand(Standing.STANDBY, "")
            with suppress(SentinelError, TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS):
                    await self._control.write_lease(replace(lease, holder=""))
            raise

    def _stand(self, standing: Standing, leader: str, why: str = "") -> None:
        if (standing, leader) == (self.standing, self.leader):
            return
        self.standing, self.leader = standing, leader
        told = {"standing": standing.value, "leader": leader} | ({"error": why} if why else {})
        _log.info("leadership", extra=told)
        self._changed()

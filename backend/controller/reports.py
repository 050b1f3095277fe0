"""Writes what `kubectl get` shows: conditions, and Events where something is wrong."""

import asyncio
import heapq
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from backend.controller import conditions
from backend.controller.conditions import ACCEPTED, Reach
from backend.controller.config_maps import ConfigMaps
from backend.controller.enforcement import Enforcement
from backend.controller.exposure import Exposure
from backend.controller.governed import Governed
from backend.controller.hub import Hub
from backend.ports.control_plane import Condition, ControlPlane, Note, PolicyStatus, Standing
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid, NotFound, SentinelError
from extauthz.core.governance import Key
from extauthz.core.model import MCPAccessGrant, MCPAgentSession
from extauthz.core.times import format_instant, parse_instant

GATHER_SECONDS: Final = 0.25  # what happens within is written at once
RETRY_SECONDS: Final = 2.0
_MOST_PAUSE_SECONDS: Final = 3600.0
_TURN: Final = 50  # objects looked at before others have their turn

_log = logging.getLogger(__name__)


class Reports:
    """Knows which objects' status may be another now, and writes it where it is.

    Args:
        standing: an object as the API server has it; None where it is gone.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        control: ControlPlane,
        governed: Governed,
        hub: Hub,
        enforcement: Enforcement,
        config_maps: ConfigMaps,
        exposure: Exposure,
        *,
        standing: Callable[[Key], Standing | None],
        clock: Callable[[], float],
    ) -> None:
        self._control, self._governed, self._hub = control, governed, hub
        self._enforcement, self._config_maps = enforcement, config_maps
        self._exposure = exposure
        self._standing, self._clock = standing, clock
        self._due: dict[Key, None] = {}
        self._wake = asyncio.Event()
        self._ends: list[tuple[float, Key]] = []
        self._end_of: dict[Key, float] = {}

    def mark(self, keys: Iterable[Key]) -> None:
        """Their status may be another now."""
        for key in keys:
            self._due[key] = None
            self._expect_end(key)
        self._wake.set()

    async def run(self) -> None:
        """Write, until cancelled."""
        while True:
            await self._wait()
            await asyncio.sleep(GATHER_SECONDS)
            due, self._due = self._due, {}
            self._wake.clear()
            for number, key in enumerate(due):
                if number % _TURN == 0:
                    await asyncio.sleep(0)
                try:
                    await self._write(key)
                except NotFound:
                    continue
                except Invalid as error:  # to try again would change nothing
                    told = {"error": str(error), **_named(key)}
                    _log.error("a status is refused", extra=told)
                except SentinelError as error:
                    told = {"error": str(error), **_named(key)}
                    _log.warning("a status cannot be written", extra=told)
                    self._due = {**dict.fromkeys(list(due)[number:]), **self._due}
                    self._wake.set()
                    await asyncio.sleep(RETRY_SECONDS)
                    break

    async def _wait(self) -> None:
        """Until something is due, or expires."""
        now = self._clock()
        while self._ends and self._ends[0][0] <= now:
            end, key = heapq.heappop(self._ends)
            if self._end_of.get(key) == end:
                del self._end_of[key]
                self._due[key] = None
                self._wake.set()
        pause = min(self._ends[0][0] - now, _MOST_PAUSE_SECONDS) if self._ends else None
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()

    async def _write(self, key: Key) -> None:
        standing = self._standing(key)
        if standing is None:
            return
        policy = None
        if key.kind == "MCPServer":
            ref = ObjectRef(key.namespace, key.name)
            wanted, policy = self._of_server(standing, ref), self._policy(ref)
        else:
            fault = self._governed.faults.get(key)
            servers, now = self._governed.servers, self._clock()
            wanted = conditions.of_binding(standing, servers, fault, self._reach(standing), now)
        found = conditions.settle(standing, wanted, format_instant(self._clock()))
        if found is None and policy == standing.policy:
            return
        written = found or [each for each in standing.conditions if each.type in conditions.OURS]
        await self._control.write_status(standing, written, policy)
        await self._note(standing, written)

    def _of_server(self, standing: Standing, ref: ObjectRef) -> list[Condition]:
        return conditions.of_server(
            standing,
            self._enforcement.reach(standing.key, ref),
            has_sessions=self._governed.has_sessions(ref),
            beside=(self._config_maps.fault(ref), self._exposure.condition(standing)),
        )

    def _policy(self, ref: ObjectRef) -> PolicyStatus | None:
        document, followers = self._hub.document(ref), self._hub.followers(ref)
        if document is None:
            return None
        enforcing = sum(each.is_current for each in followers)
        return PolicyStatus(document.revision, len(followers), enforcing)

    def _reach(self, standing: Standing) -> Reach:
        item = standing.resource
        if not isinstance(item, MCPAccessGrant | MCPAgentSession):
            return Reach(0, 0)
        return self._enforcement.reach(standing.key, item.server)

    def _expect_end(self, key: Key) -> None:
        """Look at what expires when it does."""
        standing = self._standing(key)
        item = standing.resource if standing else None
        if isinstance(item, MCPAccessGrant | MCPAgentSession) and item.expires_at:
            end = parse_instant(item.expires_at, "spec.expiresAt")
            if end > self._clock() and self._end_of.get(key) != end:
                self._end_of[key] = end
                heapq.heappush(self._ends, (end, key))

    async def _note(self, standing: Standing, written: Iterable[Condition]) -> None:
        """An Event where an object stops counting, or counts again."""
        accepted = next((each for each in written if each.type == ACCEPTED), None)
        before = next((each for each in standing.conditions if each.type == ACCEPTED), None)
        if accepted is None or (before and before.reason == accepted.reason):
            return
        is_good = accepted.status == "True"
        if is_good and (before is None or before.status == "True"):
            return
        kind = "Normal" if is_good else "Warning"
        note = Note(standing.key, standing.uid, kind, accepted.reason, accepted.message)
        await self._control.note(note)


def _named(key: Key) -> dict[str, str]:
    return {"kind": key.kind, "namespace": key.namespace, "object": key.name}

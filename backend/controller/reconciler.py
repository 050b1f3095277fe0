"""From what stands at the API server to documents for the sidecars, object by object."""

import asyncio
import gc
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from backend.controller.enforcement import Enforcement
from backend.controller.governed import Binding, Delta, Governed
from backend.controller.hub import Hub
from backend.controller.rendering import Rendering
from backend.metrics import ControllerMetrics
from backend.ports.control_plane import Observed, Standing
from extauthz.core.decision import ObjectRef
from extauthz.core.governance import KINDS, Key
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.times import format_instant

SERVER: Final = "MCPServer"
_AT_ONCE: Final = 250  # grants and sessions: some 5 ms, in which nothing else goes on

_log = logging.getLogger(__name__)


class Reconciler:
    """All on the event loop: one change without waiting for anything, in `run` what is larger.

    Args:
        report: called for each object whose status may be another now.
        gone: called for each server that is no more.
        recorded: called with the object before and after each change of a spec.
        clock: seconds since the epoch.

    Attributes:
        standings: all objects, as the API server has them.
        is_synced: whether every kind was listed once.
    """

    def __init__(
        self,
        governed: Governed,
        hub: Hub,
        enforcement: Enforcement,
        *,
        report: Callable[[Iterable[Key]], None],
        gone: Callable[[ObjectRef], None],
        recorded: Callable[[Standing | None, Standing | None], None],
        metrics: ControllerMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._governed, self._hub, self._enforcement = governed, hub, enforcement
        self._report, self._gone, self._recorded = report, gone, recorded
        self._metrics, self._clock = metrics, clock
        self.standings: dict[Key, Standing] = {}
        self._early: dict[str, Sequence[Standing]] = {}
        self._rendering: dict[ObjectRef, Rendering] = {}
        self._unreported: deque[Key] = deque()
        self._wake = asyncio.Event()
        self.is_synced = False

    def listed(self, kind: str, items: Sequence[Standing], gone: Sequence[Key]) -> None:
        """Take all objects of a kind; servers come last the first time, to be rendered once."""
        if self.is_synced:
            self._take_all(items, gone)
            return
        self._early[kind] = items
        if len(self._early) == len(KINDS):
            for each in sorted(KINDS, key=lambda name: name == SERVER):
                self._take_all(self._early.pop(each), ())
            self.is_synced = True  # from now on somebody else waits
            gc.collect()
            gc.freeze()  # looking through them for garbage again and again would hold changes up
            _log.info("custom resources are known", extra={"count": len(self.standings)})

    def changed(self, observed: Observed[Standing]) -> None:
        """Take one change."""
        if not self.is_synced:
            self._add_early(observed)
            return
        began = time.perf_counter()
        if observed.standing is not None:
            self._take(observed.standing)
        elif observed.key is not None:
            self._drop(observed.key)
        self._metrics.reconcile_seconds.observe(time.perf_counter() - began)

    async def run(self) -> None:
        """Do step by step what is large, until cancelled; sidecars are told of others between."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._rendering or self._unreported:
                some = range(min(len(self._unreported), _AT_ONCE))
                self._report([self._unreported.popleft() for _ in some])
                rendering = next(iter(self._rendering.values()), None)
                if rendering and rendering.step(_AT_ONCE):
                    self._finish(rendering)
                await asyncio.sleep(0)

    def accounts(self, server: ObjectRef) -> frozenset[str]:
        """Service accounts whose pods may follow a server by its annotation."""
        standing = self.standings.get(Key(SERVER, server.namespace, server.name))
        return standing.accounts if standing else frozenset()

    def staleness(self, server: ObjectRef) -> str:
        """After which a server's policy is stale; empty where it never is."""
        found = self._governed.servers.get(server)
        return found.policy.max_staleness if found else ""

    def _add_early(self, observed: Observed[Standing]) -> None:
        assert observed.key
        kind = observed.key.kind
        left = [each for each in self._early[kind] if each.key != observed.key]
        self._early[kind] = [*left, *([observed.standing] if observed.standing else [])]

    def _take_all(self, items: Iterable[Standing], gone: Iterable[Key]) -> None:
        for key in gone:
            self._drop(key)
        for standing in items:
            self._take(standing)

    def _take(self, standing: Standing) -> None:
        key, before = standing.key, self.standings.get(standing.key)
        self.standings[key] = standing
        if before and (before.uid, before.generation) == (standing.uid, standing.generation):
            self._report([key])  # only its status or metadata changed
            return
        self._recorded(before, standing)
        if key.kind == SERVER:
            self._take_server(standing)
        else:
            item = standing.resource
            self._put(key, item if isinstance(item, MCPAccessGrant | MCPAgentSession) else None)

    def _drop(self, key: Key) -> None:
        before = self.standings.pop(key, None)
        if before is None:
            return
        self._recorded(before, None)
        self._enforcement.forget(key)
        if key.kind == SERVER:
            ref = ObjectRef(key.namespace, key.name)
            self._rendering.pop(ref, None)
            self._governed.remove_server(ref)
            self._hub.withdraw(ref)
            self._gone(ref)
            self._report_all(self._governed.of_server(ref))
        else:
            self._put(key, None)

    def _take_server(self, standing: Standing) -> None:
        server = standing.resource
        if isinstance(server, MCPServer):  # of one that cannot be read, what ran goes on
            self._rendering.pop(ObjectRef(server.namespace, server.name), None)
            now = format_instant(self._clock())
            if self.is_synced and self._governed.changes_many(server, _AT_ONCE):
                rendering = Rendering(self._governed, server, now)
                self._rendering[rendering.ref] = rendering
                self._wake.set()
                return
            is_new = not self._knows(standing.key)
            self._publish_server(self._governed.put_server(server, now), is_new=is_new)
        self._report([standing.key])

    def _finish(self, rendering: Rendering) -> None:
        del self._rendering[rendering.ref]
        key = Key(SERVER, rendering.ref.namespace, rendering.ref.name)
        is_new = not self._knows(key)
        self._publish_server(rendering.finish(), is_new=is_new)
        self._report([key])

    def _knows(self, server: Key) -> bool:
        return ObjectRef(server.namespace, server.name) in self._governed.servers

    def _publish_server(self, delta: Delta, *, is_new: bool) -> None:
        self._hub.publish(delta)
        ref = delta.server
        self._enforcement.published(Key(SERVER, ref.namespace, ref.name), ref)
        for key in delta.put if is_new else ():
            self._enforcement.published(key, ref)
        self._report_all(self._governed.of_server(ref))

    def _report_all(self, of_server: Iterable[Key]) -> None:
        keys = list(of_server)
        if len(keys) <= _AT_ONCE:
            self._report(keys)
        else:
            self._unreported.extend(keys)
            self._wake.set()

    def _put(self, key: Key, binding: Binding | None) -> None:
        for rendering in self._rendering.values():
            rendering.touch([key])
        for delta in self._governed.put(key, binding):
            self._hub.publish(delta)
            if key in delta.put:
                self._enforcement.published(key, delta.server)
        self._report([key])

"""From what stands at the API server to documents for the sidecars, object by object."""

import gc
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from backend.controller.enforcement import Enforcement
from backend.controller.governed import Binding, Governed
from backend.controller.hub import Hub
from backend.metrics import ControllerMetrics
from backend.ports.control_plane import Observed, Standing
from extauthz.core.decision import ObjectRef
from extauthz.core.governance import KINDS, Key
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.times import format_instant

SERVER: Final = "MCPServer"

_log = logging.getLogger(__name__)


class Reconciler:
    """All on the event loop, without waiting for anything.

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
        self.is_synced = False

    def listed(self, kind: str, items: Sequence[Standing], gone: Sequence[Key]) -> None:
        """Take all objects of a kind; servers come last the first time, to be rendered once."""
        if self.is_synced:
            self._take_all(items, gone)
            return
        self._early[kind] = items
        if len(self._early) == len(KINDS):
            self.is_synced = True
            for each in sorted(KINDS, key=lambda name: name == SERVER):
                self._take_all(self._early.pop(each), ())
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
            self._governed.remove_server(ref)
            self._hub.withdraw(ref)
            self._gone(ref)
            self._report(self._governed.of_server(ref))
        else:
            self._put(key, None)

    def _take_server(self, standing: Standing) -> None:
        server = standing.resource
        if isinstance(server, MCPServer):  # of one that cannot be read, what ran goes on
            ref = ObjectRef(server.namespace, server.name)
            is_new = ref not in self._governed.servers
            delta = self._governed.put_server(server, format_instant(self._clock()))
            self._hub.publish(delta)
            self._enforcement.published(standing.key, ref)
            for key in delta.put if is_new else ():
                self._enforcement.published(key, ref)
            self._report(self._governed.of_server(ref))
        self._report([standing.key])

    def _put(self, key: Key, binding: Binding | None) -> None:
        for delta in self._governed.put(key, binding):
            self._hub.publish(delta)
            if key in delta.put:
                self._enforcement.published(key, delta.server)
        self._report([key])

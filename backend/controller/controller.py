"""The controller: follows the custom resources, and streams what they say."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from backend.controller.callers import Callers
from backend.controller.certificates import Certificates
from backend.controller.config_maps import ConfigMaps
from backend.controller.election import Election
from backend.controller.election import Standing as Leadership
from backend.controller.enforcement import Enforcement
from backend.controller.exposure import Exposure
from backend.controller.governed import Governed
from backend.controller.hub import Hub
from backend.controller.reconciler import SERVER, Reconciler
from backend.controller.records import Recorded, Records
from backend.controller.reports import Reports
from backend.controller.server import StreamServer
from backend.controller.stream import PolicyStream
from backend.controller.watching import KindWatch
from backend.metrics import ControllerMetrics
from backend.ports.control_plane import ControlPlane, Standing
from backend.ports.network import NETWORK_KINDS, Pod
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Retryable
from extauthz.core.governance import KINDS, Key

_UNSYNCED: Final = "the custom resources are not known yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the controller is told.

    Args:
        name: of this replica.
        cluster: its name, which stands in each document; may be empty.
        host, port: where sidecars reach it; 0 lets the system choose.
        lease_seconds: after so long without a sign of the leader another takes over.
        token_seconds: how long a sidecar's token is believed without asking again.
    """

    name: str
    cluster: str
    host: str
    port: int
    lease_seconds: int
    token_seconds: float


class Controller:
    """A unit.

    Args:
        record: told of each change of a spec, while this replica leads.
        clock: seconds since the epoch.
        monotonic: seconds.

    Attributes:
        server: where sidecars reach it.
    """

    name = "controller"

    def __init__(
        self,
        control: ControlPlane,
        certificates: Certificates,
        options: Options,
        *,
        record: Recorded,
        metrics: ControllerMetrics,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._metrics = metrics
        self._records = Records(record, keep_seconds=4 * options.lease_seconds, monotonic=monotonic)
        self._hub, governed = Hub(self._told), Governed(options.cluster)
        self._enforcement = Enforcement(self._hub)
        self._reconciler = self._new_reconciler(governed, clock)
        self._config_maps = self._new_config_maps(control)
        self._exposure = Exposure(self._pods, self._network_changed)
        self._network = control.network
        self._reports = self._new_reports(control, governed, clock)
        listed, changed = self._reconciler.listed, self._reconciler.changed
        self._watches = [KindWatch(control, kind, listed=listed, changed=changed) for kind in KINDS]
        self._election = Election(
            control,
            options.name,
            lease_seconds=options.lease_seconds,
            changed=self._leadership_changed,
            monotonic=monotonic,
        )
        gate = Callers(
            control,
            self._reconciler.accounts,
            remember_seconds=options.token_seconds,
            monotonic=monotonic,
        )
        self._stream = self._new_stream(gate, options.name)
        self.server = StreamServer(self._stream, certificates, options.host, options.port)
        self._writers: list[asyncio.Task[None]] = []
        self._failed = asyncio.Event()  # a writer has ended, which none should
        self._failure: BaseException | None = None
        self._count_followers()

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        leaving, self._failed = asyncio.Event(), asyncio.Event()
        election = asyncio.create_task(self._election.run(leaving, lambda: None), name="election")
        tasks = [
            election,
            asyncio.create_task(self.server.run(ready), name="policy stream"),
            asyncio.create_task(self._reconciler.run(), name="reconciler"),
            *(asyncio.create_task(watch.run(), name="watch") for watch in self._watches),
        ]
        ends = [asyncio.create_task(each.wait()) for each in (stop, self._failed)]
        try:
            await asyncio.wait({*ends, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            leaving.set()  # another replica takes over before the streams end here
            await asyncio.wait({election})
            for task in tasks:
                if task.done():
                    task.result()
            if self._failure:
                raise self._failure
        finally:
            self._stream.end()
            await _cancelled([*tasks, *self._writers])
            for end in ends:
                end.cancel()
            await self.server.stop()

    def fault(self) -> str:
        """Why no sidecar is served here; empty where they are."""
        if not self._reconciler.is_synced:
            return _UNSYNCED
        if self._election.standing is Leadership.STANDBY:
            leader = self._election.leader
            return f"this replica does not lead; {f'`{leader}` does' if leader else 'none does'}"
        return ""

    async def ping(self) -> None:
        """Raises: Retryable: the API server cannot be followed."""
        if not self._reconciler.is_synced or not all(each.is_live for each in self._watches):
            raise Retryable("the custom resources cannot be followed; look at the log")

    def _new_reconciler(self, governed: Governed, clock: Callable[[], float]) -> Reconciler:
        return Reconciler(
            governed,
            self._hub,
            self._enforcement,
            report=self._changed,
            gone=lambda server: self._stream.end(server),  # noqa: PLW0108 - made later
            recorded=self._changed_by,
            metrics=self._metrics,
            clock=clock,
        )

    def _new_config_maps(self, control: ControlPlane) -> ConfigMaps:
        return ConfigMaps(
            control,
            self._hub,
            standing=lambda server: self._reconciler.standings.get(_key(server)),
            told=lambda server: self._report([_key(server)]),
            authority=lambda: self.server.authority,
        )

    def _new_reports(
        self, control: ControlPlane, governed: Governed, clock: Callable[[], float]
    ) -> Reports:
        return Reports(
            control,
            governed,
            self._hub,
            self._enforcement,
            self._config_maps,
            self._exposure,
            standing=self._reconciler.standings.get,
            clock=clock,
        )

    def _new_stream(self, gate: Callers, name: str) -> PolicyStream:
        return PolicyStream(
            self._hub,
            gate,
            fault=self.fault,
            is_sure=self._is_sure,
            staleness=self._reconciler.staleness,
            metrics=self._metrics,
            name=name,
        )

    def _count_followers(self) -> None:
        followers = self._hub.all_followers
        self._metrics.sidecars.set_function(lambda: len(list(followers())))
        self._metrics.behind.set_function(lambda: sum(not each.is_current for each in followers()))

    def _is_sure(self) -> bool:
        leads = self._election.standing is Leadership.LEADS
        return leads and all(each.is_live for each in self._watches)

    def _leadership_changed(self) -> None:
        standing = self._election.standing
        self._metrics.leads.set(standing is Leadership.LEADS)
        if standing is Leadership.STANDBY:
            self._stream.end()
            for task in self._writers:
                task.cancel()
            self._writers = []
        elif not self._writers:
            self._records.take_over(list(self._reconciler.standings.values()))
            self._writers = [asyncio.create_task(work, name="status") for work in self._works()]
            for task in self._writers:
                task.add_done_callback(self._writer_ended)

    def _works(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What only the leader does: write statuses, and follow what these say besides."""
        yield self._reports.run()
        yield self._config_maps.run()
        self._exposure.forget()
        listed, changed = self._exposure.listed, self._exposure.changed
        for kind in NETWORK_KINDS:
            yield KindWatch(self._network, kind, listed=listed, changed=changed).run()

    def _writer_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._failure = task.exception()
            self._failed.set()

    def _told(self, server: ObjectRef) -> None:
        """A document or its followers changed."""
        self._config_maps.mark(server)
        self._report([_key(server), *self._enforcement.reached(server)])

    def _changed(self, keys: Iterable[Key]) -> None:
        """Objects changed, be it their metadata alone."""
        keys = list(keys)
        for key in keys:
            if key.kind == SERVER:
                self._config_maps.look_again(ObjectRef(key.namespace, key.name))
        self._report(keys)

    def _pods(self, server: ObjectRef) -> list[Pod]:
        return [each.pod for each in self._hub.followers(server) if each.pod]

    def _network_changed(self, namespace: str) -> None:
        followed = {each.server for each in self._hub.all_followers()}
        self._report(_key(each) for each in followed if namespace in {"", each.namespace})

    def _report(self, keys: Iterable[Key]) -> None:
        self._reports.mark(keys)

    def _changed_by(self, before: Standing | None, after: Standing | None) -> None:
        leads = self._election.standing is not Leadership.STANDBY
        self._records.note(before, after, leads=leads)


def _key(server: ObjectRef) -> Key:
    return Key(SERVER, server.namespace, server.name)


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task

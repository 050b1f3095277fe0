"""What a process is made of while it is put together."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from backend.auth.principal import Verifier
from backend.event_log_settings import FILE
from backend.lifecycle import Unit, Units
from backend.operations import Health, Probe, Ready
from backend.ports.event_log import EventLog
from backend.ports.event_store import EventStore
from backend.settings import Settings
from backend.wiring_adapters import new_event_log, new_event_store
from extauthz.core.errors import Invalid, Retryable


@dataclass
class Wired:
    """What has been built so far; adapters are opened once and shared."""

    settings: Settings
    verifier: Verifier
    registry: CollectorRegistry
    opened: AsyncExitStack
    alone: bool  # the target is one component
    units: Units
    beside: list[Unit] = field(default_factory=list)
    health: dict[str, Health] = field(default_factory=dict)  # of each component
    log: EventLog | None = None
    store: EventStore | None = None
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    def needs(self, component: str, probes: Mapping[str, Probe]) -> Ready:
        """What a component cannot do without; whether it is ready is asked by the answer."""
        self.health[component] = Health(probes)
        return self._ready(lambda: self._serves(component), probes)

    def ready(self) -> Ready:
        """Whether all components of the process are."""
        probes = {
            name: probe for each in self.health.values() for name, probe in each.probes.items()
        }
        return self._ready(self._serves, probes)

    def _ready(self, serves: Probe, probes: Mapping[str, Probe]) -> Ready:
        return Health({"process": serves, **probes}).faults

    async def _serves(self, component: str = "") -> None:
        if fault := self.units.fault(component):
            raise Retryable(fault)

    async def event_log(self) -> EventLog:
        async with self.opening:
            if self.settings.event_log_url.startswith(FILE):
                mend = "give it to `sentinel replay --from`"
                raise Invalid("EVENT_LOG_URL", "is a file, which can only be read", mend)
            if self.log is None:
                log = new_event_log(self.settings)
                await log.start()
                self.opened.push_async_callback(log.stop)
                self.log = log
            return self.log

    async def event_store(self) -> EventStore:
        if self.store is None:
            self.store = store = await asyncio.to_thread(new_event_store, self.settings)
            self.opened.callback(store.close)
            await asyncio.to_thread(store.migrate)
        return self.store

    def port(self, own: int) -> int:
        common = self.settings.port
        return common if self.alone and common is not None else own

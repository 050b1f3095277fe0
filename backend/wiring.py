"""Reading this file top to bottom tells what runs. The one place that names adapters."""

import asyncio
import logging
import math
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import uuid_utils
from prometheus_client import CollectorRegistry

from backend import operations
from backend.auth.principal import Scope, Verifier
from backend.authentication import authentication
from backend.event_log_settings import FILE, KAFKA, SQLITE, EventLogSettings, broker_list
from backend.lifecycle import Unit, Units
from backend.metrics import (
    ApiMetrics,
    ControllerMetrics,
    IngestMetrics,
    Name,
    ProcessorMetrics,
    new_registry,
)
from backend.operations import Health, Probe, Ready
from backend.ports.access_store import AccessStore
from backend.ports.change_log import ChangeLog
from backend.ports.cluster import Cluster
from backend.ports.event_log import EventLog
from backend.ports.event_store import EventStore
from backend.ports.service_accounts import ServiceAccounts
from backend.serving import HttpUnit, WsgiUnit
from backend.settings import UNIX, Settings
from extauthz.core.errors import Conflict, Invalid, Retryable
from extauthz.core.governance import Key, Restart

if TYPE_CHECKING:
    from backend.adapters.kafka_client import KafkaSettings
    from backend.api.restart import Record
    from backend.api.runtime import Runtime
    from backend.controller.controller import Recorded
    from backend.processor.batch import Batcher

DISTRIBUTION: Final = "mcpruntime-sentinel"
KUBERNETES: Final = "kubernetes://"
BATCH_BYTES: Final = 64 << 20  # well below the 256 MB of one block of the store

_log = logging.getLogger(__name__)


def new_event_log(settings: Settings) -> EventLog:
    url = settings.event_log_url or (KAFKA if settings.kafka_brokers else "")
    if url.startswith(KAFKA):
        return _kafka_log(settings, url)
    if url.startswith(FILE):
        from backend.adapters.file_log import FileLog

        return FileLog(Path(unquote(urlsplit(url).path)))
    from backend.adapters.sqlite_log import SqliteLog

    return SqliteLog(
        _path(url, "EVENT_LOG_URL", "sqlite"),
        clock=time.time,
        retention_seconds=settings.event_log_retention_hours * 3600,
        max_bytes=settings.event_log_max_bytes,
    )


def _kafka_log(settings: Settings, url: str) -> EventLog:
    from backend.adapters.kafka_log import KafkaLog

    return KafkaLog(kafka_settings(settings, url))


def kafka_settings(settings: EventLogSettings, url: str) -> "KafkaSettings":
    """Of the topic of a `kafka://` url. Raises: Invalid."""
    from backend.adapters.kafka_client import KafkaSettings

    address, _, topic = url.removeprefix(KAFKA).partition("/")
    brokers = broker_list(address) or settings.kafka_brokers
    if not brokers:
        raise _unset("KAFKA_BROKERS", "host:9092")
    return KafkaSettings(
        brokers=brokers,
        topic=topic or settings.kafka_topic,
        partitions=settings.kafka_partitions,
        replication=settings.kafka_replication,
        retention_seconds=settings.event_log_retention_hours * 3600,
        compression=settings.kafka_compression,
        security_protocol=settings.kafka_security_protocol,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_sasl_username,
        password=settings.kafka_sasl_password,
        ca_file=settings.kafka_ca_file or None,
        certificate_file=settings.kafka_cert_file or None,
        key_file=settings.kafka_key_file or None,
    )


def new_event_store(settings: Settings) -> EventStore:
    from backend.adapters.clickhouse_store import ClickHouseStore

    if not settings.store_url:
        raise _unset("STORE_URL", "chdb:///path")
    return ClickHouseStore(
        settings.store_url, cluster=settings.cluster, retention_days=settings.retention_days
    )


def new_access_store(url: str) -> AccessStore:
    if url.startswith(KUBERNETES):  # its client is not installed where there is no cluster
        from backend.adapters.kubernetes_client import CustomObjects, new_client
        from backend.adapters.kubernetes_store import KubernetesStore

        try:
            client = new_client(url.removeprefix(KUBERNETES))
        except Invalid as error:
            mend = "set KUBECONFIG, or name a context of it: kubernetes://CONTEXT"
            raise Invalid("ACCESS_URL", error.problem, mend) from error
        return KubernetesStore(CustomObjects(client))
    from backend.adapters.directory import DirectoryStore

    return DirectoryStore(_path(url, "ACCESS_URL", "dir"))


def new_cluster_store(
    kubeconfig: str, context: str, manager: str, left_out: Callable[[Key, Invalid], None]
) -> AccessStore:
    """For a person's own account; its writes are the controller's to record. Raises: Invalid."""
    from backend.adapters.kubernetes_client import CustomObjects, new_client
    from backend.adapters.kubernetes_store import KubernetesStore

    objects = CustomObjects(new_client(context, kubeconfig), manager=manager)
    return KubernetesStore(objects, left_out=left_out)


def _service_accounts(settings: Settings) -> ServiceAccounts | None:
    if not settings.account_tokens:
        return None
    from backend.adapters.kubernetes_accounts import KubernetesAccounts
    from backend.adapters.kubernetes_client import new_client

    try:
        return KubernetesAccounts(new_client(settings.account_tokens.removeprefix(KUBERNETES)))
    except Invalid as error:
        mend = "set KUBECONFIG, or name a context of it: kubernetes://CONTEXT"
        raise Invalid("SERVICE_ACCOUNT_TOKENS", error.problem, mend) from error


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


async def _ingest(wired: Wired) -> Unit:
    from backend.ingest.app import Limits, create_app

    settings, log = wired.settings, await wired.event_log()
    ready = wired.needs("ingest", {"event_log": log.ping})
    metrics = IngestMetrics(wired.registry)
    limits = Limits(
        request_bytes=settings.max_request_bytes,
        held_bytes=settings.max_held_bytes,
        wait_seconds=settings.ingest_wait_seconds,
        age_seconds=settings.max_age_seconds,
    )
    return HttpUnit(
        "ingest",
        lambda: create_app(
            log=log,
            verifier=wired.verifier,
            ready=ready,
            metrics=metrics,
            clock=time.time,
            monotonic=time.monotonic,
            new_id=lambda: str(uuid_utils.uuid7()),
            limits=limits,
        ),
        settings.host,
        wired.port(settings.ingest_port),
        inflates=False,  # ingest does it itself, within a bound
    )


def new_batcher(settings: Settings) -> "Batcher":
    from backend.processor.batch import Batcher

    return Batcher(
        max_events=settings.batch_size,
        max_bytes=BATCH_BYTES,
        flush_seconds=settings.flush_seconds,
    )


async def _processor(wired: Wired) -> Unit:
    from backend.processor.poison import DeadLetterLimit
    from backend.processor.processor import Processor

    settings, log = wired.settings, await wired.event_log()
    store, metrics = await wired.event_store(), ProcessorMetrics(wired.registry)
    processor = Processor(
        log=log,
        store=store,
        group=settings.consumer_group,
        new_batch=lambda: new_batcher(settings),
        metrics=metrics,
        limit=DeadLetterLimit(
            most=settings.max_dead_letters, window_seconds=settings.dead_letter_window_seconds
        ),
        empties_log=not log.is_shared,
        monotonic=time.monotonic,
        clock=time.time,
    )
    probes = {"event_log": log.ping, "store": _pinged(store), "processor": processor.ping}
    wired.needs("processor", probes)
    return processor


def _pinged(place: EventStore | AccessStore) -> Probe:
    return lambda: asyncio.to_thread(place.ping)


def _cluster(wired: Wired) -> Cluster:
    from backend.adapters.local_cluster import LocalCluster, OwnComponent
    from backend.adapters.local_keeper import Keeper

    url = wired.settings.cluster_url
    lags = {"processor": lambda: _lag(wired.registry)}
    return LocalCluster(
        wired.units,
        {key: OwnComponent(each, lags.get(key)) for key, each in wired.health.items()},
        asyncio.get_running_loop(),
        keeper=Keeper(url.removeprefix(UNIX)) if url else None,
        version=version(DISTRIBUTION),
    )


def _lag(registry: CollectorRegistry) -> int | None:
    found = registry.get_sample_value(Name.LAG)
    return None if found is None or math.isnan(found) else int(found)


def _runtime(wired: Wired) -> "Runtime":
    from backend.api.letters import DeadLetters
    from backend.api.restart import Cooldown
    from backend.api.runtime import Runtime

    settings = wired.settings
    # Opened when it is first asked for: queries work while the log is away.
    letters = DeadLetters(wired.event_log, asyncio.get_running_loop())
    return Runtime(
        letters=letters if settings.has_event_log else None,
        cluster=_cluster(wired),
        record_restarts=_record_restarts(wired),
        cooldown=Cooldown(settings.restart_cooldown_seconds, time.monotonic),
        fault=lambda: wired.units.fault("api"),
    )


def _record_restarts(wired: Wired) -> "Record":
    from backend.api.trail import Trail

    if not wired.settings.has_event_log:
        return _cannot_record
    return Trail(
        wired.event_log,
        asyncio.get_running_loop(),
        clock=time.time,
        new_id=lambda: str(uuid_utils.uuid7()),
    ).restarts


def _cannot_record(_restarts: Sequence[Restart]) -> None:
    raise Conflict("no event log tells who restarted what; set EVENT_LOG_URL or KAFKA_BROKERS")


async def _api(wired: Wired) -> Unit:
    from backend.api.app import create_app

    settings, access = wired.settings, new_access_store(wired.settings.access_url)
    store = await wired.event_store()
    wired.needs("api", {"store": _pinged(store), "access": _pinged(access)})
    metrics = ApiMetrics(wired.registry)
    app = create_app(
        store=store,
        access=access,
        changes=await _change_log(wired, metrics),
        runtime=_runtime(wired),
        verifier=wired.verifier,
        metrics=metrics,
        clock=lambda: datetime.now(UTC),
        retention=_retention(settings),
    )
    return WsgiUnit("api", app, settings.host, wired.port(settings.api_port))


async def _controller(wired: Wired) -> Unit:
    from backend.adapters.kubernetes_calls import new_calls
    from backend.adapters.kubernetes_control import KubernetesControl
    from backend.controller.certificates import CertificateFiles, OwnCertificates
    from backend.controller.controller import Controller, Options

    settings, metrics = wired.settings, ControllerMetrics(wired.registry)
    if not settings.access_url.startswith(KUBERNETES):
        mend = f"write it like {KUBERNETES}; elsewhere a sidecar reads the directory itself"
        raise Invalid("ACCESS_URL", "names no cluster, and the controller needs one", mend)
    calls = await new_calls(
        settings.access_url.removeprefix(KUBERNETES),
        lambda verb, resource: metrics.calls.labels(verb, resource).inc(),
    )
    wired.opened.push_async_callback(calls.close)
    name, place = settings.controller_name or socket.gethostname(), settings.controller_namespace
    control = KubernetesControl(calls, namespace=place, instance=name, clock=time.time)
    files = (settings.controller_tls_cert_file, settings.controller_tls_key_file)
    if any(files) and not all(files):
        missing = "CONTROLLER_TLS_KEY_FILE" if files[0] else "CONTROLLER_TLS_CERT_FILE"
        raise Invalid(missing, "is not set, and its other half is", "name both files, or none")
    service = f"mcp-sentinel-controller.{place}.svc"
    names = settings.controller_dns_names or (service, f"{service}.cluster.local")
    controller = Controller(
        control,
        CertificateFiles(*map(Path, files))
        if all(files)
        else OwnCertificates(control, names, time.time),
        Options(
            name=name,
            cluster=settings.cluster_name,
            host=settings.host,
            port=wired.port(settings.controller_port),
            lease_seconds=settings.controller_lease_seconds,
            token_seconds=settings.controller_token_seconds,
        ),
        record=_cluster_changes(wired),
        metrics=metrics,
        clock=time.time,
        monotonic=time.monotonic,
    )
    wired.needs("controller", {"api_server": controller.ping})
    return controller


def _cluster_changes(wired: Wired) -> "Recorded":
    """What is changed by others than the api, on its way to the event log."""
    from backend.history.cluster import ClusterChanges
    from backend.history.delivery import Delivery
    from backend.history.ledger import Ledger
    from backend.history.outbox import Outbox
    from backend.history.recorder import Recorder

    if not wired.settings.has_event_log:
        _log.warning("edits of custom resources are not recorded; set EVENT_LOG_URL")
        return lambda _before, _after: None
    outbox = Outbox(_outbox_path(wired.settings), time.time)
    wired.opened.callback(outbox.close)
    delivery = Delivery(outbox, wired.event_log)
    recorder = Recorder(
        ledger=Ledger(),
        outbox=outbox,
        delivery=delivery,
        loop=asyncio.get_running_loop(),
        clock=time.time,
        new_id=lambda: str(uuid_utils.uuid7()),
        producer="controller",
    )
    changes = ClusterChanges(recorder.record_later)
    wired.beside += [changes, delivery]
    return changes.note


async def _change_log(wired: Wired, metrics: ApiMetrics) -> ChangeLog:
    """What the api changes is recorded by it; what files are edited, by a watch beside it."""
    from backend.history.delivery import Delivery
    from backend.history.ledger import Ledger
    from backend.history.outbox import Outbox
    from backend.history.recorder import Recorder
    from backend.history.watch import DirectoryWatch

    settings, ledger = wired.settings, Ledger()
    outbox = Outbox(_outbox_path(settings), time.time)
    wired.opened.callback(outbox.close)
    metrics.changes_waiting.set_function(outbox.count)
    delivery = Delivery(outbox, wired.event_log)
    if not settings.has_event_log:
        _log.warning("edits of custom resources are not recorded; set EVENT_LOG_URL")
    else:
        if not settings.access_url.startswith(KUBERNETES):  # there the controller watches
            wired.beside.append(
                DirectoryWatch(
                    _path(settings.access_url, "ACCESS_URL", "dir"),
                    ledger=ledger,
                    open_log=wired.event_log,
                    store=await wired.event_store(),
                    clock=time.time,
                    new_id=lambda: str(uuid_utils.uuid7()),
                    retention=_retention(settings),
                )
            )
        wired.beside.append(delivery)
    return Recorder(
        ledger=ledger,
        outbox=outbox,
        delivery=delivery,
        loop=asyncio.get_running_loop(),
        clock=time.time,
        new_id=lambda: str(uuid_utils.uuid7()),
    )


def _outbox_path(settings: Settings) -> Path:
    from backend.history.outbox import IN_MEMORY

    if settings.change_outbox:
        return Path(settings.change_outbox)
    for url in (settings.event_log_url, settings.store_url):
        if url.startswith((SQLITE, "chdb://")):
            return Path(unquote(urlsplit(url).path)).with_name("outbox.db")
    _log.warning("changes that wait for the event log lie in memory alone; set CHANGE_OUTBOX")
    return IN_MEMORY


def _retention(settings: Settings) -> timedelta | None:
    return timedelta(days=settings.retention_days) if settings.retention_days else None


@dataclass(frozen=True, slots=True)
class Component:
    """One row of the table: how it is built, and the scope without which it is useless."""

    build: Callable[[Wired], Awaitable[Unit]]
    scope: Scope | None
    metrics_port: int


# In the order of the drain: who accepts work stops first.
COMPONENTS: Final[Mapping[str, Component]] = {
    "ingest": Component(_ingest, Scope.INGEST, 9091),
    "processor": Component(_processor, None, 9102),
    "api": Component(_api, Scope.READ, 9090),
    "controller": Component(_controller, None, 9096),
}
ALL_METRICS_PORT: Final = 9090
TARGETS: Final[Mapping[str, Sequence[str]]] = {
    "all": ("ingest", "processor", "api"),  # a controller is for a cluster alone
    **{name: (name,) for name in COMPONENTS},
}


async def run(settings: Settings, target: str, stop: asyncio.Event) -> None:
    """Run a target until `stop`.

    Raises:
        Invalid: a setting is missing or wrong.
        ExceptionGroup: a component failed.
    """
    names, registry = TARGETS[target], new_registry()
    async with AsyncExitStack() as opened:
        needs = {name: scope for name in names if (scope := COMPONENTS[name].scope)}
        accounts = _service_accounts(settings) if "ingest" in needs else None
        verifier, token_keys = authentication(settings, needs, registry, accounts)
        wired = Wired(
            settings=settings,
            verifier=verifier,
            registry=registry,
            opened=opened,
            alone=len(names) == 1,
            units=Units(settings.drain_seconds, time.time),
        )
        units = [await COMPONENTS[name].build(wired) for name in names]
        units += [*wired.beside, *token_keys, _operations(wired, names)]
        await wired.units.run(units, stop)


def _operations(wired: Wired, names: Sequence[str]) -> Unit:
    """The metrics port; it answers as long as anything runs, so it stops last."""
    own = COMPONENTS[names[0]].metrics_port if wired.alone else ALL_METRICS_PORT
    port = wired.settings.metrics_port
    return HttpUnit(
        "metrics",
        lambda: operations.create_app(ready=wired.ready(), registry=wired.registry),
        wired.settings.host,
        own if port is None else port,
    )


def _path(url: str, name: str, scheme: str) -> Path:
    if not url:
        raise _unset(name, f"{scheme}:///path")
    return Path(urlsplit(url).path)


def _unset(name: str, example: str) -> Invalid:
    return Invalid(name, "is not set, and this target needs it", f"write it like {example}")

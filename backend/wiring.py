"""Reading this file top to bottom tells what runs.

Adapters are named in `wiring_adapters.py` alone.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uuid_utils

from backend import operations
from backend.auth.principal import Scope
from backend.authentication import authentication
from backend.lifecycle import Unit, Units
from backend.metrics import (
    ApiMetrics,
    ControllerMetrics,
    IngestMetrics,
    ProcessorMetrics,
    new_registry,
)
from backend.operations import Probe
from backend.ports.access_store import AccessStore
from backend.ports.event_store import EventStore
from backend.serving import HttpUnit, WsgiUnit
from backend.settings import Settings
from backend.wired import Wired
from backend.wiring_adapters import (
    new_access_store,
    new_cluster,
    new_control_plane,
    new_service_accounts,
)
from backend.wiring_history import change_log, cluster_changes, retention_of
from extauthz.core.errors import Conflict, Invalid
from extauthz.core.governance import Restart

if TYPE_CHECKING:
    from backend.api.restart import Record
    from backend.api.runtime import Runtime
    from backend.processor.batch import Batcher

BATCH_BYTES: Final = 64 << 20  # well below the 256 MB of one block of the store


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


def _runtime(wired: Wired) -> "Runtime":
    from backend.api.letters import DeadLetters
    from backend.api.restart import Cooldown
    from backend.api.runtime import Runtime

    settings = wired.settings
    # Opened when it is first asked for: queries work while the log is away.
    letters = DeadLetters(wired.event_log, asyncio.get_running_loop())
    return Runtime(
        letters=letters if settings.has_event_log else None,
        cluster=new_cluster(settings, wired.units, wired.health, wired.registry),
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
    metrics = ApiMetrics(wired.registry)
    changes = await change_log(wired, metrics)  # first: it judges settings alone
    store = await wired.event_store()
    wired.needs("api", {"store": _pinged(store), "access": _pinged(access)})
    app = create_app(
        store=store,
        access=access,
        changes=changes,
        runtime=_runtime(wired),
        verifier=wired.verifier,
        metrics=metrics,
        clock=lambda: datetime.now(UTC),
        retention=retention_of(settings),
    )
    return WsgiUnit("api", app, settings.host, wired.port(settings.api_port))


async def _controller(wired: Wired) -> Unit:
    from backend.controller.certificates import CertificateFiles, OwnCertificates
    from backend.controller.controller import Controller, Options

    settings, metrics = wired.settings, ControllerMetrics(wired.registry)
    name, place = settings.controller_name or socket.gethostname(), settings.controller_namespace
    control = await new_control_plane(settings, name, metrics, wired.opened)
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
        record=cluster_changes(wired),
        metrics=metrics,
        clock=time.time,
        monotonic=time.monotonic,
    )
    wired.needs("controller", {"api_server": controller.ping})
    return controller


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
        accounts = new_service_accounts(settings) if "ingest" in needs else None
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

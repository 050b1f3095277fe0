"""Builds the decision point from its settings, runs it, and drains it. Read it top to bottom."""

import asyncio
import gc
import logging
import os
import time
from collections.abc import Awaitable
from contextlib import suppress
from importlib.metadata import version
from typing import Final

import stamina
import uuid_utils
from grpc_health.v1.health import aio as health
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

from extauthz.clock import SteadyClock
from extauthz.core import config
from extauthz.core.accessdir import SETTLE_SECONDS
from extauthz.core.decision import PolicyFacts
from extauthz.core.errors import Invalid
from extauthz.core.policy import OAuth
from extauthz.emitter import Counts, Emitter, EmitterOptions
from extauthz.jwks import KeyCollector, KeyOptions, KeyRing
from extauthz.keyed import KeyedPolicies
from extauthz.metrics import MeteredAudit, StateCollector, UndecidedCollector
from extauthz.operations import Operations, Process
from extauthz.ports import CheckServer, Server
from extauthz.server import create_server, listen
from extauthz.settings import Settings
from extauthz.sources.directory import DirectorySource
from extauthz.sources.file import FileSource
from extauthz.sources.policies import Policies
from extauthz.sources.stream.source import StreamSource
from extauthz.sources.wake import keep_looking
from extauthz.undecided import OpenCalls, Tail

_log = logging.getLogger(__name__)

DISTRIBUTION: Final = "mcpruntime-sentinel"
METRICS_PREFIX: Final = "mcp_gateway"
UNDECIDED_NAME: Final = "undecided.jsonl"  # in the spool, as Envoy's bootstrap has it
GRACE_SECONDS: Final = 1.0  # for Checks under way; Envoy keeps its log stream open for ever


class DecisionPoint:
    """All units of one decision point.

    Args:
        settings: as read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = clock = SteadyClock()
        facts = PolicyFacts(
            server=settings.server_name,
            namespace=settings.server_namespace,
            cluster=settings.cluster_name,
        )
        self.policies = Policies(facts)
        self._source = _source(settings, self.policies, facts, clock)
        self.keys = KeyRing(self._token_rules, _key_options(settings), clock)
        self.keyed = KeyedPolicies(self.policies, self.keys)
        self._emitter: Emitter | None = None
        self._tail: Tail | None = None
        self._registry = registry = CollectorRegistry()
        for collector in (StateCollector(self.policies, self._counts), PLATFORM_COLLECTOR):
            registry.register(collector)
        registry.register(GC_COLLECTOR)
        registry.register(KeyCollector(self.keys, METRICS_PREFIX))
        ProcessCollector(registry=registry)
        stream = self._source if isinstance(self._source, StreamSource) else None
        if stream:
            registry.register(stream.collector)
        process = Process(
            version=version(DISTRIBUTION),
            pid=os.getpid(),
            started_at=time.time(),
            source=self._source.name,
            settings=tuple(config.changed(settings)),
        )
        self.operations = Operations(
            process,
            self.policies,
            self._counts,
            registry,
            self.keys,
            stream=stream.describe if stream else None,
        )
        self._server: Server | None = None
        self._health: health.HealthServicer | None = None
        self._stop_watching = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start every unit in order; Envoy can ask when this returns.

        Raises:
            Invalid: an address or a folder cannot be used.
        """
        settings = self._settings
        stamina.instrumentation.set_on_retry_hooks([])  # the emitter says what it has to say
        await self.operations.start(settings.metrics_host, settings.metrics_port)
        await self._source.look()
        facts = self.policies.current.facts  # names the server where the settings do not
        options = _emitter_options(settings, facts)
        emitter = Emitter(options, time.time, _new_id)
        await emitter.start(facts.revision)
        self._emitter = emitter
        metered = MeteredAudit(emitter, self._registry)
        audit = OpenCalls(metered, settings.queue_max_events)
        await self._tail_undecided(options, audit)
        kind = CheckServer(settings.check_server)
        serving = await create_server(kind, self.keyed, audit, self._clock)
        self._server, self._health = serving.server, serving.health
        try:
            listen(self._server, settings.check_address)
        except Invalid as error:
            raise Invalid("CHECK_ADDRESS", error.problem, error.mend) from error
        await self._server.start()
        self._watching = asyncio.create_task(self._follow_policy(), name="policy source")
        self._fetching = asyncio.create_task(self.keys.run(), name="token keys")
        self.operations.serving = True
        gc.freeze()  # what stays for good is not looked through for garbage, again and again
        gc.set_threshold(20_000)  # nor what a batch holds: calls leave no cycles behind
        _log.info(
            "decision point runs",
            extra={
                "check_address": settings.check_address,
                "source": self._source.name,
                "metrics_port": self.operations.port,
                "ready": self.policies.is_ready,
            },
        )

    async def _follow_policy(self) -> None:
        source, stop = self._source, self._stop_watching
        if isinstance(source, StreamSource):
            await source.follow(stop)
        else:
            most = self._settings.policy_poll_seconds
            await keep_looking(source, stop, lambda: self.policies.poll_seconds(most))

    async def _tail_undecided(self, options: EmitterOptions, calls: OpenCalls) -> None:
        settings = self._settings
        tail = Tail(
            settings.undecided_log or settings.spool_dir / UNDECIDED_NAME,
            settings.undecided_max_bytes,
            options,
            facts=lambda: self.policies.current.facts,
            calls=calls,
            clock=time.time,
        )
        await tail.start()
        self._tail = tail
        self._registry.register(UndecidedCollector(tail))

    async def wait(self, stop: asyncio.Event) -> None:
        """Until `stop` is set, or a unit ends that should not have.

        Raises:
            RuntimeError: nothing answers Check any more; a new process would.
        """
        assert self._server, "start before"
        stopped = asyncio.create_task(stop.wait())
        checking = asyncio.create_task(self._server.ended())
        units = [unit for unit in (self._watching, self._fetching) if unit]
        await asyncio.wait([stopped, checking, *units], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if checking.done():
            self.operations.alive = False
            raise RuntimeError("the thread that answers Check has ended")
        checking.cancel()

    async def drain(self) -> None:
        """Stop every unit in order, under the deadline; then raise what failed.

        No new Check is taken, those under way are answered, then the emitter sends or spools
        all that they left.

        Raises:
            ExceptionGroup: what failed, in order.
        """
        deadline = time.monotonic() + self._settings.drain_seconds
        self.operations.serving = False
        failures: list[Exception] = []

        async def finish(unit: Awaitable[object]) -> None:
            try:
                await unit
            except Exception as error:  # the others still drain
                failures.append(error)

        if self._health:
            await finish(self._health.enter_graceful_shutdown())
        if self._server:
            await finish(self._server.stop(min(GRACE_SECONDS, self._settings.drain_seconds / 4)))
        if self._fetching:
            self._fetching.cancel()
            await finish(_ended(self._fetching))
        self._stop_watching.set()
        if self._watching:
            await finish(self._watching)
        if self._tail:
            await finish(self._tail.stop(self._settings.drain_seconds / 4))
        emitter, self._emitter = self._emitter, None
        if emitter:
            await finish(emitter.stop(max(deadline - time.monotonic(), 0.1)))
        await finish(self.operations.stop())
        if failures:
            raise ExceptionGroup("units failed", failures)

    def _token_rules(self) -> OAuth | None:
        policy = self.policies.current.policy
        return policy.oauth if policy else None

    def _counts(self) -> Counts | None:
        return self._emitter.counts() if self._emitter else None


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run a decision point until `stop` is set, and drain it.

    Raises:
        Invalid: it cannot start as it is set up.
        ExceptionGroup: units that failed.
    """
    point = DecisionPoint(settings)
    try:
        await point.start()
        await point.wait(stop)
        _log.info("decision point drains")
    finally:
        await point.drain()


def _source(
    settings: Settings, policies: Policies, expected: PolicyFacts, clock: SteadyClock
) -> FileSource | DirectorySource | StreamSource:
    if settings.policy_file:
        return FileSource(
            settings.policy_file,
            policies,
            expected=expected,
            clock=clock,
            settle_seconds=SETTLE_SECONDS,
        )
    if settings.access_dir:
        return DirectorySource(
            settings.access_dir,
            policies,
            expected=expected,
            clock=clock,
            settle_seconds=SETTLE_SECONDS,
        )
    return StreamSource(settings.stream, policies, clock)


async def _ended(cancelled: asyncio.Task[None]) -> None:
    with suppress(asyncio.CancelledError):
        await cancelled


def _key_options(settings: Settings) -> KeyOptions:
    return KeyOptions(
        refresh_seconds=settings.jwks_refresh_seconds,
        cooldown_seconds=settings.jwks_cooldown_seconds,
        max_age_seconds=settings.jwks_max_age_seconds,
        allow_loopback_http=settings.jwks_allow_loopback_http,
    )


def _emitter_options(settings: Settings, facts: PolicyFacts) -> EmitterOptions:
    return EmitterOptions(
        ingest_url=settings.ingest_url,
        spool_folder=settings.spool_dir,
        api_key=settings.api_key,
        token_file=settings.ingest_token_file,
        digest_key=settings.arguments_digest_key.encode(),
        gateway=settings.gateway_name,
        server=facts.server,
        namespace=facts.namespace,
        cluster=facts.cluster,
        source=settings.event_source,
        call_event_type=settings.event_type,
        versions={"sentinel": version(DISTRIBUTION)},
        durable=settings.audit_mode == "durable",
        spool_max_bytes=settings.spool_max_bytes,
        queue_max_events=settings.queue_max_events,
        completion_wait_seconds=settings.completion_wait_seconds,
        flush_seconds=settings.flush_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
    )


def _new_id() -> str:
    return str(uuid_utils.uuid7())

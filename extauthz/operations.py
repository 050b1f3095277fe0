"""What operators ask the decision point over HTTP: health, metrics, and what it runs."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from extauthz.core.errors import Invalid
from extauthz.core.times import format_instant
from extauthz.emitter import Counts
from extauthz.jwks import KeyRing
from extauthz.sources.policies import Policies


@dataclass(frozen=True, slots=True)
class Process:
    """What does not change while the process runs.

    Args:
        version: of the package.
        pid: process id.
        started_at: seconds since the epoch.
        source: where the policy comes from.
        settings: those that differ from their defaults, secrets hidden.
    """

    version: str
    pid: int
    started_at: float
    source: str
    settings: tuple[str, ...]


class Operations:
    """Serves /health, /live, /ready, /metrics and /config/status.

    Args:
        process: told in /config/status.
        policies: the running policy.
        counts: the emitter's; None while it does not run.
        registry: the metrics.
        keys: what tokens are verified by; None where nothing is to be told of them.
        stream: what is told of the policy stream; None where there is none.

    Attributes:
        serving: set it while calls are decided, from the end of the start to the begin of the
            drain: else /ready answers 503.
        alive: unset it when nothing will ever answer again: then /live answers 503.
    """

    def __init__(
        self,
        process: Process,
        policies: Policies,
        counts: Callable[[], Counts | None],
        registry: CollectorRegistry,
        keys: KeyRing[Any] | None = None,
        *,
        stream: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self._process, self._policies, self._counts = process, policies, counts
        self._registry, self._keys, self._stream = registry, keys, stream
        self._runner: web.AppRunner | None = None
        self.serving, self.alive = False, True
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; `port` then tells where (0 picks one).

        Raises:
            Invalid: the address is taken, or not this machine's.
        """
        app = web.Application()
        app.add_routes(
            [
                web.get("/health", _ok),
                web.get("/live", self._live),
                web.get("/ready", self._ready),
                web.get("/metrics", self._metrics),
                web.get("/config/status", self._status),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self.stop()
            problem = f"`{port}` on `{host}` cannot be bound ({error.strerror})"
            raise Invalid("METRICS_PORT", problem, "set a free port, or 0 for any") from error
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening. A second call is idle."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _live(self, _: web.Request) -> web.Response:
        if not self.alive:
            return web.Response(status=503, text="nothing answers Check any more\n")
        return web.Response(text="ok")

    async def _ready(self, _: web.Request) -> web.Response:
        if fault := self._fault():
            return web.Response(status=503, text=f"{fault}\n")
        doubt = next(iter(self._policies.faults), None)  # of what was to follow what runs
        return web.Response(text=f"ok, but {doubt}\n" if doubt else "ok\n")

    def _fault(self) -> str:
        """Why no call can be allowed here now; empty where some can."""
        if not self.serving:
            return "is starting or draining"
        if not self._policies.is_ready:
            return f"no policy: {self._policies.current.fault}"
        if self._keys and not self._keys.is_ready:
            return f"no token keys: {self._keys.fault}"
        return ""

    async def _metrics(self, _: web.Request) -> web.Response:
        text = generate_latest(self._registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _status(self, _: web.Request) -> web.Response:
        body = orjson.dumps(self._describe(), option=orjson.OPT_INDENT_2)
        return web.Response(body=body, content_type="application/json")

    def _describe(self) -> Mapping[str, Any]:
        policies, process, counts = self._policies, self._process, self._counts()
        current = policies.current
        facts, policy = current.facts, current.policy
        return {
            "version": process.version,
            "pid": process.pid,
            "started_at": format_instant(process.started_at),
            "ready": not self._fault(),
            "fault": self._fault(),
            "source": process.source,
            "server": {
                "name": facts.server,
                "namespace": facts.namespace,
                "cluster": facts.cluster,
                "team_id": facts.team_id,
            },
            "policy": {
                "revision": facts.revision,
                "version": facts.version,
                "mode": facts.mode,
                "generated_at": _instant(policy.generated_at if policy else 0),
                "confirmed_at": _instant(current.confirmed_at),
                "changed_at": _instant(policies.changed_at),
            },
            "stream": self._stream() if self._stream else None,
            "token_keys": self._keys.describe() if self._keys else None,
            "faults": [asdict(fault) | {"text": str(fault)} for fault in policies.faults],
            "reloads": {result.value: count for result, count in policies.reloads.items()},
            "events": None if counts is None else _describe_counts(counts),
            "settings": list(process.settings),
        }


def _describe_counts(counts: Counts) -> dict[str, Any]:
    dropped = {cause.value: count for cause, count in counts.dropped.items()}
    return asdict(counts) | {"dropped": dropped}


def _instant(seconds: float) -> str:
    """RFC 3339; empty for never."""
    return format_instant(seconds) if seconds else ""


async def _ok(_: web.Request) -> web.Response:
    return web.Response(text="ok")

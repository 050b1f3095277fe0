"""What every component answers beside its work: /health /live /ready /metrics."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from extauthz.core.errors import SentinelError

Probe = Callable[[], Awaitable[None]]
Ready = Callable[[], Awaitable[Mapping[str, str]]]


def readiness(probes: Mapping[str, Probe]) -> Ready:
    """Asks every probe; the answer holds the faults by name, and is empty when ready."""

    async def ready() -> Mapping[str, str]:
        faults: dict[str, str] = {}
        for name, probe in probes.items():
            try:
                await probe()
            except SentinelError as error:
                faults[name] = str(error)
        return faults

    return ready


def health_routes(ready: Ready) -> list[web.RouteDef]:
    """Routes without a credential: they tell nothing but whether it works."""

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def is_ready(_: web.Request) -> web.Response:
        faults = await ready()
        status = HTTPStatus.SERVICE_UNAVAILABLE if faults else HTTPStatus.OK
        return web.json_response({"ok": not faults, **faults}, status=status)

    return [web.get("/health", live), web.get("/live", live), web.get("/ready", is_ready)]


def metrics_route(registry: CollectorRegistry) -> web.RouteDef:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    return web.get("/metrics", metrics)


def create_app(*, ready: Ready, registry: CollectorRegistry) -> web.Application:
    """The application of the metrics port."""
    app = web.Application()
    app.add_routes([*health_routes(ready), metrics_route(registry)])
    return app

"""What every component answers beside its work: /health /live /ready /metrics."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from aiohttp import HttpVersion11, web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from extauthz.core.errors import SentinelError

Probe = Callable[[], Awaitable[None]]
from backend.problems import CONTENT_TYPE, Problem
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

    served = (("/health", live), ("/live", live), ("/ready", is_ready))
    return [web.get(path, serve, expect_handler=expected) for path, serve in served]


async def expected(request: web.Request) -> web.Response | None:
    """What is answered to `Expect`; aiohttp's own fails where the header is no UTF-8.

    Returns:
        A refusal where something else than 100-continue is expected.
    """
    if request.version < HttpVersion11:
        return None
    if request.headers["Expect"].lower() != "100-continue":
        status, mend = HTTPStatus.EXPECTATION_FAILED, "leave it out"
        said = f"only 100-continue can be expected here; {mend}"
        problem = Problem(status, "expectation_failed", said, "Expect", mend)
        return web.Response(body=problem.document, status=status, content_type=CONTENT_TYPE)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun
    return None


def metrics_route(registry: CollectorRegistry) -> web.RouteDef:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    return web.get("/metrics", metrics, expect_handler=expected)


def create_app(*, ready: Ready, registry: CollectorRegistry) -> web.Application:
    """The application of the metrics port."""
    app = web.Application()
    app.add_routes([*health_routes(ready), metrics_route(registry)])
    return app

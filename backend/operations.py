"""What every component answers beside its work: /health /live /ready /metrics.

What each of them means, on whatever port: docs/operations.md.
"""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from aiohttp import HttpVersion11, web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from backend.problems import CONTENT_TYPE, Problem
from extauthz.core.errors import SentinelError

Probe = Callable[[], Awaitable[None]]
Ready = Callable[[], Awaitable[Mapping[str, str]]]


class Health:
    """What a component needs, asked all together.

    Args:
        probes: by the name of what is asked; each raises what is wrong.

    Attributes:
        last_fault: the last one that was seen, which may be over; empty for none.
    """

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self.probes, self.last_fault = probes, ""

    async def faults(self) -> Mapping[str, str]:
        """What is wrong, by name; empty where nothing is."""
        found: dict[str, str] = {}
        for name, probe in self.probes.items():
            try:
                await probe()
            except SentinelError as error:
                found[name] = self.last_fault = str(error)
        return found


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

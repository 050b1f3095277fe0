"""`sentinel port-forward`: a component of a cluster on a port of this machine."""

import asyncio
import errno
import json
import sys
import time
import webbrowser
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import click

from backend.cli.aliases import key_of
from backend.cli.console import Failure, json_option, printable, warn
from backend.cli.operated import ClusterAt, on_cluster
from backend.ports.workloads import Tunnel, Workloads
from extauthz.core.errors import Retryable, SentinelError

CHUNK_BYTES: Final = 1 << 16
AGAIN_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 30.0  # in which a component that is restarted serves again


class Target(NamedTuple):
    """Args: port: in its pods; path: where a person begins; empty where it serves none."""

    port: int
    path: str = ""


TARGETS: Final[Mapping[str, Target]] = {
    "ui": Target(8082, "/"),
    "api": Target(8080, "/api/docs"),
    "gateway": Target(8083, "/"),
    "ingest": Target(8081),
    "clickhouse": Target(8123, "/play"),
    "prometheus": Target(9090, "/prometheus"),
    "grafana": Target(3000, "/grafana"),
    "tempo": Target(3200),
    "loki": Target(3100),
}


@click.command("port-forward")
@click.argument("target")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port here; default: the component's own where it is free, else any that is.",
)
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--open/--no-open",
    "opens",
    default=None,
    help="Open it in a browser; default: where a person is at the terminal.",
)
@json_option
@on_cluster
def port_forward(
    *,
    target: str,
    port: int | None,
    address: str,
    opens: bool | None,
    as_json: bool,
    at: ClusterAt,
) -> None:
    """Reach TARGET, such as ui, api or grafana, on this machine, until Ctrl-C.

    Each connection leads to a pod that serves then: a restart of the component breaks those that
    are open, and no others.
    """
    key = key_of(target)
    if key not in TARGETS:
        raise click.UsageError(f"`{target}` has nothing to reach; known: {', '.join(TARGETS)}")
    is_person = sys.stdout.isatty() and not as_json

    def tell(url: str) -> None:
        if as_json:
            print(json.dumps({"target": key, "url": url}), flush=True)
        else:
            print(f"{printable(url)}  (Ctrl-C ends it)", flush=True)
        if TARGETS[key].path and (is_person if opens is None else opens):
            webbrowser.open(url)

    try:
        asyncio.run(_forward(at, key, address, port, tell))
    except KeyboardInterrupt:
        return


async def _forward(
    at: ClusterAt, key: str, address: str, port: int | None, tell: Callable[[str], None]
) -> None:
    async with at.opened() as workloads:
        forwarder = Forwarder(workloads, key, TARGETS[key].port)
        await forwarder.check()
        server = await _listen(forwarder.serve, address, port, TARGETS[key].port)
        host = f"[{address}]" if ":" in address else address
        tell(f"http://{host}:{server.sockets[0].getsockname()[1]}{TARGETS[key].path}")
        async with server:
            await server.serve_forever()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def _listen(serve: Serve, address: str, port: int | None, own: int) -> asyncio.Server:
    """On the port that is asked for; else on the component's own, or on any."""
    try:
        return await asyncio.start_server(serve, address, own if port is None else port)
    except OSError as error:
        if port is None and error.errno == errno.EADDRINUSE:
            return await asyncio.start_server(serve, address, 0)
        mend = "name another with --port or --address, or leave them out"
        raise Failure(f"`{address}` cannot be listened on ({error.strerror}); {mend}") from error


@dataclass(slots=True)
class Forwarder:
    """Passes connections on to a port of a component.

    Args:
        monotonic: seconds.
    """

    workloads: Workloads
    key: str
    port: int
    monotonic: Callable[[], float] = time.monotonic
    _is_away: bool = field(default=False, init=False)

    async def check(self) -> None:
        """Raises: SentinelError: it cannot be reached now."""
        tunnel = await self.workloads.connect(self.key, self.port)
        await tunnel.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end. What is broken is told on standard error, once."""
        try:
            tunnel = await self._patiently()
            try:
                await _until_either(_up(reader, tunnel), _down(tunnel, writer))
            finally:
                await tunnel.close()
        except SentinelError as error:
            warn(f"{self.key}: {error}")
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _patiently(self) -> Tunnel:
        """A connection into a pod, once there is one. Raises: SentinelError."""
        deadline = self.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                tunnel = await self.workloads.connect(self.key, self.port)
            except Retryable as error:
                if not self._is_away:
                    warn(f"{error}; trying again")
                self._is_away = True
                if self.monotonic() > deadline:
                    raise
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                if self._is_away:
                    warn(f"{self.key} is reached again")
                self._is_away = False
                return tunnel


async def _until_either(*works: Coroutine[Any, Any, None]) -> None:
    """Until one of them ends; then none goes on. Raises: what the first one does."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _up(reader: asyncio.StreamReader, tunnel: Tunnel) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(CHUNK_BYTES):
            await tunnel.send(data)


async def _down(tunnel: Tunnel, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await tunnel.receive():
            writer.write(data)
            await writer.drain()

"""HTTP servers as units: aiohttp applications on the loop, WSGI in threads."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import waitress
from aiohttp import web
from waitress.server import BaseWSGIServer
from waitress.wasyncore import dispatcher

from extauthz.core.errors import Invalid

CLOSE_SECONDS: Final = 5.0  # for requests that are being answered
# Of a connection without a whole head of a request: strangers can open many. Clients that
# never send twice must let go first: those of Go do after 90.
IDLE_SECONDS: Final = 120.0
WSGI_THREADS: Final = 8
WSGI_MAX_CONNECTIONS: Final = 1000  # nobody else is let in then, and strangers can open many
WSGI_MAX_BODY_BYTES: Final = 1 << 20  # of what applications refuse, too: it is read first


class HttpUnit:
    """An aiohttp application on one port.

    Args:
        name: of the component.
        port: 0 lets the system choose; `port` tells which, once ready.
        inflates: bodies reach the application without their Content-Encoding.
    """

    def __init__(
        self,
        name: str,
        new_app: Callable[[], web.Application],
        host: str,
        port: int,
        *,
        inflates: bool = True,
    ) -> None:
        self.name, self._new_app = name, new_app
        self._host, self._asked, self._inflates = host, port, inflates
        self.port = 0

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        runner = web.AppRunner(
            self._new_app(),
            access_log=None,
            shutdown_timeout=CLOSE_SECONDS,
            auto_decompress=self._inflates,
            keepalive_timeout=IDLE_SECONDS,
        )
        await runner.setup()
        try:
            listening = _listen(self.name, self._host, self._asked)
            self.port = listening.getsockname()[1]
            await web.SockSite(runner, listening).start()
            ready()
            await stop.wait()
        finally:
            await runner.cleanup()


class WsgiUnit:
    """A WSGI application on one port, waitress in a thread of its own."""

    def __init__(self, name: str, app: Any, host: str, port: int) -> None:
        self.name, self._app = name, app
        self._host, self._asked = host, port
        self.port = 0

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        listening = _listen(self.name, self._host, self._asked)
        self.port = listening.getsockname()[1]
        server = waitress.create_server(
            self._app,
            sockets=[listening],
            threads=WSGI_THREADS,
            ident=None,
            max_request_body_size=WSGI_MAX_BODY_BYTES,
            connection_limit=WSGI_MAX_CONNECTIONS,
            asyncore_use_poll=True,  # select() ends at 1024
        )
        thread = threading.Thread(target=server.run, name=f"{self.name}-http")
        thread.start()
        try:
            ready()
            await stop.wait()
        finally:
            await asyncio.to_thread(_close, server, thread)


def _close(server: BaseWSGIServer, thread: threading.Thread) -> None:
    """Stop accepting, let running requests end, then end waitress's loop.

    waitress has no call for this: its loop ends when its map of sockets is empty,
    and only the loop's own thread may change that map.
    """
    server.trigger.pull_trigger(lambda: dispatcher.close(server))
    deadline = time.monotonic() + CLOSE_SECONDS
    while time.monotonic() < deadline and _is_answering(server):
        time.sleep(0.02)
    server.task_dispatcher.shutdown(cancel_pending=True, timeout=CLOSE_SECONDS)

    def close_rest() -> None:
        for channel in list(server.active_channels.values()):
            channel.handle_close()
        server.trigger.close()

    server.trigger.pull_trigger(close_rest)
    thread.join(CLOSE_SECONDS)


def _is_answering(server: BaseWSGIServer) -> bool:
    channels = list(server.active_channels.values())
    return any(channel.requests or channel.total_outbufs_len for channel in channels)


def _listen(name: str, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error
        raise Invalid(
            f"{name} port",
            f"`{host}:{port}` cannot be listened on ({why})",
            "set another port or host, or stop what holds it",
        ) from error

"""HTTP servers as units: aiohttp applications on the loop, WSGI in threads."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import waitress
from aiohttp import web
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
from waitress.task import WSGITask
from waitress.wasyncore import dispatcher

from extauthz.core.errors import Invalid

CLOSE_SECONDS: Final = 5.0  # for requests that are being answered
QUIET_SECONDS: Final = 0.2  # for a request on a connection that was just accepted
QUIET_TURNS: Final = 10  # of the loop in that time, should the whole process stand still in it
# Of a connection without a whole head of a request: strangers can open many. Clients that
# never send twice must let go first: those of Go do after 90.
IDLE_SECONDS: Final = 120.0
WSGI_THREADS: Final = 8
STALL_SECONDS: Final = 60.0  # a reader that takes nothing for so long holds up a thread
WSGI_MAX_CONNECTIONS: Final = 1000  # nobody else is let in then, and strangers can open many
# Of an answer that is streamed: it waits for its reader then. More than twice that of one that
# came at once goes to a temporary file.
WSGI_UNSENT_BYTES: Final = 1 << 20
WSGI_MAX_BODY_BYTES: Final = 1 << 20  # of what applications refuse, too: it is read first


class _Place:
    """Where a unit listens; kept while it is restarted, so that clients wait instead of fail.

    Args:
        name: of the component.
        asked: port; 0 lets the system choose, and it stays the same from then on.
    """

    def __init__(self, name: str, host: str, asked: int) -> None:
        self._name, self._host, self._asked = name, host, asked
        self._listening: socket.socket | None = None
        self._kept: socket.socket | None = None

    def take(self) -> socket.socket:
        """A listening socket, to be closed by who takes it. Raises: Invalid."""
        if self._kept is None:
            self._listening = _listen(self._name, self._host, self._asked)
        else:
            self._listening = self._kept.dup()
        return self._listening

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, connections wait to be accepted by who takes it next."""
        if self._listening is None:
            yield
            return
        self._kept = self._listening.dup()
        try:
            yield
        finally:
            self._kept.close()
            self._kept = None


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
        self.name, self._new_app, self._inflates = name, new_app, inflates
        self._place = _Place(name, host, port)
        self.held = self._place.held
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
            listening = self._place.take()
            self.port = listening.getsockname()[1]
            site = web.SockSite(runner, listening)
            await site.start()
            ready()
            await stop.wait()
            await site.stop()
            for _ in range(QUIET_TURNS):
                await asyncio.sleep(QUIET_SECONDS / QUIET_TURNS)
        finally:
            await runner.cleanup()


class WsgiUnit:
    """A WSGI application on one port, waitress in a thread of its own.

    Args:
        stall_seconds: a connection whose reader takes nothing of its answer is cut then.
    """

    def __init__(
        self, name: str, app: Any, host: str, port: int, *, stall_seconds: float = STALL_SECONDS
    ) -> None:
        self.name, self._app, self._stall_seconds = name, app, stall_seconds
        self._place = _Place(name, host, port)
        self.held = self._place.held
        self.port = 0

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        listening = self._place.take()
        self.port = listening.getsockname()[1]
        server = waitress.create_server(
            self._app,
            sockets=[listening],
            threads=WSGI_THREADS,
            ident=None,
            max_request_body_size=WSGI_MAX_BODY_BYTES,
            connection_limit=WSGI_MAX_CONNECTIONS,
            outbuf_high_watermark=WSGI_UNSENT_BYTES,
            outbuf_overflow=2 * WSGI_UNSENT_BYTES,
            asyncore_use_poll=True,  # select() ends at 1024
        )
        server.channel_class, server.is_closing = _Channel, False
        thread = threading.Thread(target=server.run, name=f"{self.name}-http")
        thread.start()
        try:
            ready()
            await self._until(stop, server)
        finally:
            await asyncio.to_thread(_close, server, thread)

    async def _until(self, stop: asyncio.Event, server: BaseWSGIServer) -> None:
        """Cut off readers that stand still; waitress looks at idle connections alone."""
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._stall_seconds / 4)
            since = time.time() - self._stall_seconds
            server.trigger.pull_trigger(lambda since=since: _close_stalled(server, since))


class _Task(WSGITask):  # type: ignore[misc]  # waitress has no types
    """A request; while its server closes, the last one of its connection."""

    def build_response_header(self) -> bytes:
        if self.channel.server.is_closing:
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header


class _Channel(HTTPChannel):  # type: ignore[misc]
    task_class = _Task


def _close(server: BaseWSGIServer, thread: threading.Thread) -> None:
    """Stop accepting, let running requests end, then end waitress's loop.

    waitress has no call for this: its loop ends when its map of sockets is empty,
    and only the loop's own thread may change that map.
    """
    server.is_closing, accepts_none = True, threading.Event()

    def stop_accepting() -> None:
        dispatcher.close(server)
        accepts_none.set()

    server.trigger.pull_trigger(stop_accepting)
    deadline = time.monotonic() + CLOSE_SECONDS
    accepts_none.wait(CLOSE_SECONDS)
    while server.active_channels and time.monotonic() < deadline:
        server.trigger.pull_trigger(lambda: _close_quiet(server))
        time.sleep(0.02)
    server.task_dispatcher.shutdown(cancel_pending=True, timeout=CLOSE_SECONDS)

    def close_rest() -> None:
        for channel in list(server.active_channels.values()):
            channel.handle_close()
        server.trigger.close()

    server.trigger.pull_trigger(close_rest)
    thread.join(CLOSE_SECONDS)


def _close_stalled(server: BaseWSGIServer, since: float) -> None:
    for channel in list(server.active_channels.values()):
        if channel.total_outbufs_len and channel.last_activity < since:
            channel.handle_close()


def _close_quiet(server: BaseWSGIServer) -> None:
    """Let go of who asks nothing; what is on its way has a moment to arrive."""
    since = time.time() - QUIET_SECONDS
    for channel in list(server.active_channels.values()):
        is_answered = not (channel.requests or channel.total_outbufs_len)
        if is_answered and channel.last_activity < since:
            channel.handle_close()


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

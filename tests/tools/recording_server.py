"""An HTTP server for tests that keeps every request as it came and answers oddly."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from aiohttp import web

from tests.tools.waiting import SECONDS

# Names in mixed case, one name twice, a reason phrase and a server of its own.
ODD_HEADERS = [
    ("X-oDD-cAsE", "kept?"),
    ("Set-Cookie", "a=1"),
    ("Set-Cookie", "b=2"),
    ("Server", "odd/1.0"),
    ("WWW-Authenticate", 'Bearer resource_metadata="http://h/.well-known/x"'),
    ("MCP-Session-Id", "AbC"),
]
ODD_BODY = b'{"jsonrpc":"2.0" ,\r\n "id":1,"result":{"\xc3\xa9":"\x00\\u0000"}}  '
EVENTS = (b"event: message\ndata: 1\n\n", b"event: message\ndata: 2\n\n")


@dataclass(frozen=True)
class Recorded:
    """One request, byte for byte."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        """All values of a header, its name compared without case."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class RecordingServer:
    """`GET /events` streams one event, and the second once `more` is set; `GET /die`
    cuts the connection without an answer; all else is answered with the odd response.
    """

    port: int = 0
    requests: list[Recorded] = field(default_factory=list)
    more: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        self.requests.clear()
        self.more.clear()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = tuple((k.decode("latin-1"), v.decode("latin-1")) for k, v in request.raw_headers)
        body = await request.read()
        self.requests.append(Recorded(request.method, request.raw_path, headers, body))
        if request.path == "/events":
            return await self._stream(request)
        if request.path == "/die":
            assert request.transport is not None
            request.transport.abort()
        response = web.Response(status=201, reason="Odd But Fine", body=ODD_BODY)
        for name, value in ODD_HEADERS:
            response.headers.add(name, value)
        return response

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(EVENTS[0])
        await asyncio.to_thread(self.more.wait, SECONDS)
        with suppress(ConnectionError):  # the client may have seen enough
            await response.write(EVENTS[1])
        return response


@contextmanager
def recording() -> Iterator[RecordingServer]:
    """Serve on a free loopback port, in a thread."""
    server, loop = RecordingServer(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{path:.*}", server.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.port = runner.addresses[0][1]
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(SECONDS)
    try:
        yield server
    finally:
        server.more.set()
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

"""HTTP servers stop without cutting an answer, and name a port that is taken."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from backend import logs
from backend.lifecycle import Units
from backend.serving import HttpUnit, WsgiUnit
from extauthz.core.errors import Invalid
from tests.tools.waiting import SECONDS, soon

BIG = b"x" * (8 << 20)


class SlowApp:
    """Answers a lot, once it is let."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        self.entered.set()
        self.released.wait(SECONDS)
        start("200 OK", [("Content-Length", str(len(BIG)))])
        return [BIG]


async def test_a_running_request_is_answered_in_full() -> None:
    """After the stop nothing new is accepted, and what was being answered arrives whole."""
    app = SlowApp()
    unit, stop, ready = WsgiUnit("api", app, "127.0.0.1", 0), asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(unit.run(stop, ready.set))
    await ready.wait()
    async with aiohttp.ClientSession() as http:

        async def get() -> bytes:
            async with http.get(f"http://127.0.0.1:{unit.port}/") as answer:
                return await answer.read()

        asked = asyncio.create_task(get())
        await asyncio.to_thread(app.entered.wait, SECONDS)
        stop.set()
        await refused(unit.port)
        app.released.set()
        assert await asked == BIG
    await running


async def refused(port: int) -> None:
    """Return once nobody listens on the port."""

    async def is_refused() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            return True
        writer.close()
        return False

    await soon(is_refused, "nobody listens")


class Hello:
    """Says so, as either kind of application."""

    def wsgi(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        start("200 OK", [("Content-Length", "5")])
        return [b"hello"]

    def new_app(self) -> web.Application:
        async def hello(_: web.Request) -> web.Response:
            return web.Response(text="hello")

        app = web.Application()
        app.router.add_get("/", hello)
        return app


async def test_a_unit_runs_again() -> None:
    """After its stop a unit can be started anew."""

    for unit in (
        HttpUnit("a", Hello().new_app, "127.0.0.1", 0),
        WsgiUnit("b", Hello().wsgi, "127.0.0.1", 0),
    ):
        for _ in range(2):
            stop, ready = asyncio.Event(), asyncio.Event()
            running = asyncio.create_task(unit.run(stop, ready.set))
            await ready.wait()
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"http://127.0.0.1:{unit.port}/") as answer,
            ):
                assert await answer.text() == "hello"
            stop.set()
            await running


@pytest.mark.parametrize("kind", [HttpUnit, WsgiUnit])
async def test_a_restart_turns_nobody_away(kind: Any) -> None:
    """Who connects meanwhile waits, and is answered by the next run on the same port."""
    app = Hello()
    unit = kind("a", app.new_app if kind is HttpUnit else app.wsgi, "127.0.0.1", 0)
    units, stop, enough = Units(20.0, lambda: 0.0), asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(units.run([unit], stop))
    await soon(lambda: not units.fault(), "it serves")
    answers = 0

    async def ask() -> None:
        nonlocal answers
        while not enough.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", unit.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert b" 200 " in await reader.readline()
            assert (await reader.read()).endswith(b"hello")
            writer.close()
            answers += 1

    asking = [asyncio.create_task(ask()) for _ in range(8)]

    def has_answered(count: int) -> bool:
        assert not [each.result() for each in asking if each.done()], "turned away"
        return answers >= count

    for _ in range(3):
        more = answers + 50
        await units.restart("a")
        await soon(partial(has_answered, more), "more answers")
    enough.set()
    await asyncio.gather(*asking)
    stop.set()
    await running
    await refused(unit.port)


async def test_a_connection_that_is_kept_ends_with_an_answer() -> None:
    """While a server closes, each answer says that the connection ends, and ends it."""
    app = SlowApp()
    unit, stop, ready = WsgiUnit("api", app, "127.0.0.1", 0), asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(unit.run(stop, ready.set))
    await ready.wait()
    reader, writer = await asyncio.open_connection("127.0.0.1", unit.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.to_thread(app.entered.wait, SECONDS)
    stop.set()
    await refused(unit.port)
    app.released.set()
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert body == BIG
    writer.close()
    await running


async def test_strangers_take_neither_disk_nor_places() -> None:
    """A large body is refused unread, and hundreds of idle connections keep nobody out."""

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        start("200 OK", [("Content-Length", "5")])
        return [b"hello"]

    unit, stop, ready = WsgiUnit("api", app, "127.0.0.1", 0), asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(unit.run(stop, ready.set))
    await ready.wait()
    idle = [await asyncio.open_connection("127.0.0.1", unit.port) for _ in range(200)]
    async with asyncio.timeout(SECONDS):
        for size, status in ((1 << 30, b"413"), (0, b"200")):
            reader, writer = await asyncio.open_connection("127.0.0.1", unit.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            assert (await reader.readline()).split()[1] == status
            writer.close()
    for _, writer in idle:
        writer.close()
    stop.set()
    await running


@pytest.mark.parametrize("kind", [HttpUnit, WsgiUnit])
async def test_a_port_that_is_taken(kind: Any) -> None:
    """The error names component, address and mend."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        unit = kind("ingest", web.Application, "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(Invalid, match=r"ingest port: `127\.0\.0\.1:\d+`.*stop what holds it"):
            await unit.run(asyncio.Event(), lambda: None)


async def test_what_is_no_http_is_not_repeated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is logged: it may hold a key, or a payload."""
    monkeypatch.setattr(logging.getLogger("aiohttp.server"), "filters", [])
    before = logging.getLogger().handlers[:]
    logs.configure("info")
    unit, stop, ready = (
        HttpUnit("a", web.Application, "127.0.0.1", 0),
        asyncio.Event(),
        asyncio.Event(),
    )
    running = asyncio.create_task(unit.run(stop, ready.set))
    await ready.wait()
    for raw in (
        b"POST / HTTP/1.1\r\nHost: a\r\nx-api-key: my-secret\x00\r\n\r\n",
        b'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1{"a":"my-secret"}\r\n\r\n',
        b'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{"a":"my-secret"}\r\n',
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", unit.port)
        writer.write(raw)
        assert b" 40" in await reader.read()
        writer.close()
    stop.set()
    await running
    logging.basicConfig(handlers=before, force=True)
    assert "my-secret" not in capsys.readouterr().err

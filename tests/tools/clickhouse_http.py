"""What `tests.tools.clickhouse_endpoint` runs: HTTP in front, chDB behind.

A server tells when a write failed, chDB does not: here the parts are checked in its stead.
"""

import asyncio
import dataclasses
import gzip
import os
import re
import signal
import threading
from pathlib import Path
from typing import Final

from aiohttp import web

from backend.adapters.chdb_parts import Parts
from extauthz.core.errors import Retryable
from tests.tools.clickhouse_endpoint import Fault

MOST: Final = 1 << 30  # bytes of a body, a line, a field

_INSERT: Final = re.compile(rb"\s*INSERT\s+INTO\s+(.{1,4000}?)\s+FORMAT\s+(\w+)\s*", re.I | re.S)
_CODE: Final = re.compile(r"Code: (\d+)\.")
# URL arguments that are no settings.
_TRANSPORT: Final = {"query", "database", "query_id", "session_id", "wait_end_of_query"}
_TRANSPORT |= {"client_protocol_version", "enable_http_compression", "user", "password"}
_TRANSPORT |= {"send_progress_in_http_headers", "http_headers_progress_interval_ms"}
_TRANSPORT |= {"cancel_http_readonly_queries_on_client_close"}


class _Endpoint:
    def __init__(self, path: str) -> None:
        import chdb

        self._chdb, self._path = chdb, path
        self._open = chdb.connect(path)  # keeps the engine up between requests
        self._faults: list[Fault] = []
        self._parts: dict[str, Parts] = {}
        self._opening = threading.Lock()
        self.inserts = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MOST)
        app.router.add_get("/ping", self._ping)
        app.router.add_get("/-/inserts", self._count)
        app.router.add_put("/-/faults", self._set_faults)
        app.router.add_route("*", "/", self._query)
        return app

    async def _ping(self, request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _count(self, request: web.Request) -> web.Response:
        return web.json_response(self.inserts)

    async def _set_faults(self, request: web.Request) -> web.Response:
        self._faults = [Fault(**each) for each in await request.json()]
        return web.Response()

    async def _query(self, request: web.Request) -> web.StreamResponse:
        given, body = dict(request.query), b""
        if request.content_type == "multipart/form-data":  # large parameters come as fields
            given |= {name: str(value) for name, value in (await request.post()).items()}
        else:
            body = _inflated(await request.read(), request.headers.get("Content-Encoding", ""))
        statement = given.pop("query", "").encode()
        statement = statement + b"\n" + body if statement and body else statement or body
        return await self._answer(request, statement, given)

    async def _answer(
        self, request: web.Request, statement: bytes, given: dict[str, str]
    ) -> web.StreamResponse:
        insert = _INSERT.match(statement)
        self.inserts += bool(insert)
        fault = self._next_fault("insert" if insert else "select")
        if fault.before:
            threading.Thread(target=self._occupy, args=(fault.before + 1, given)).start()
            await asyncio.sleep(fault.before)
        if fault.code:
            return _refusal(f"Code: {fault.code}. DB::Exception: on command. (ON_COMMAND)")
        if fault.die_after_parts:
            threading.Thread(
                target=_die_after_parts, args=(Path(self._path), fault.die_after_parts)
            ).start()
        try:
            answer = await asyncio.to_thread(self._run, statement, insert, given)
        except Exception as error:
            return _refusal(str(error))
        await asyncio.sleep(fault.after)
        if fault.lose:
            assert request.transport
            request.transport.abort()
        return web.Response(body=answer)

    def _next_fault(self, kind: str) -> Fault:
        for index, fault in enumerate(self._faults):
            if fault.on in (kind, "any") and fault.times:
                self._faults[index] = dataclasses.replace(fault, times=fault.times - 1)
                return fault
        return Fault()

    def _run(
        self, statement: bytes, insert: re.Match[bytes] | None, given: dict[str, str]
    ) -> bytes:
        """One request has a connection of its own, so that no setting outlives it."""
        connection = self._chdb.connect(self._path)
        try:
            if database := given.get("database"):
                connection.query(f"USE `{database}`")
            for name, value in given.items():
                if name not in _TRANSPORT and not name.startswith("param_"):
                    connection.query(f"SET {name} = '{value}'")
            if insert:
                try:
                    with self._parts_of(given["database"]).inserting():
                        # In one text: of rows sent in pieces, chDB tells no broken constraint.
                        connection.query(statement.decode())
                except Retryable as error:
                    said = f"Code: 243. DB::Exception: {error} (NOT_ENOUGH_SPACE)"
                    raise Retryable(said) from error
                return b""
            parameters = {n[6:]: v for n, v in given.items() if n.startswith("param_")}
            return bytes(
                connection.query(statement.decode(), "TabSeparated", params=parameters).bytes()
            )
        finally:
            connection.close()

    def _parts_of(self, database: str) -> Parts:
        """What a server would do by itself: find what was not written, and say so."""
        with self._opening:
            if database not in self._parts:
                connection = self._chdb.connect(self._path)
                connection.query(f"USE `{database}`")
                asking = threading.Lock()

                def ask(statement: str) -> bytes:
                    with asking:
                        try:
                            return bytes(connection.query(statement, "TabSeparated").bytes())
                        except Exception as error:
                            raise Retryable(str(error)) from error

                self._parts[database] = Parts(ask)
                self._parts[database].start()
            return self._parts[database]

    def _occupy(self, seconds: float, given: dict[str, str]) -> None:
        """What a slow query looks like in `system.processes`, also while it waits here."""
        connection = self._chdb.connect(self._path)
        connection.query(f"SET log_comment = '{given.get('log_comment', '')}'")
        connection.query(
            f"SELECT sleepEachRow(0.05) FROM numbers({int(seconds * 20)})"
            " SETTINGS function_sleep_max_microseconds_per_block = 0, max_block_size = 1"
        )
        connection.close()


def _inflated(body: bytes, encoding: str) -> bytes:
    if encoding == "lz4":
        import lz4.frame

        return bytes(lz4.frame.decompress(body))
    if encoding == "zstd":
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    # aiohttp has inflated gzip already.
    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body


def _refusal(said: str) -> web.Response:
    code = found[1] if (found := _CODE.search(said)) else "1001"
    return web.Response(status=500, text=said, headers={"X-ClickHouse-Exception-Code": code})


def _parts(path: Path) -> int:
    """Parts of the table of events that are renamed into place."""
    found = 0
    for table in path.glob("store/*/*"):
        names = os.listdir(table) if table.is_dir() else []
        found += sum(name[:8].isdigit() and name[8:9] == "_" for name in names)
    return found


def _die_after_parts(path: Path, parts: int) -> None:
    until = _parts(path) + parts
    while _parts(path) < until:
        pass
    os.kill(os.getpid(), signal.SIGKILL)


async def serve(path: str, port: int) -> None:
    endpoint = await asyncio.to_thread(_Endpoint, path)
    runner = web.AppRunner(endpoint.app(), max_line_size=MOST, max_field_size=MOST)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    print(runner.addresses[0][1], flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()
    os._exit(0)  # what the engine holds is on disk; its own end may take a minute

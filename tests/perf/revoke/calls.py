"""Calls through Envoys without a pause: `python -m tests.perf.revoke.calls PORT…`.

Each connection sends its next call when it has the answer to the last; the upstream, which is here
too, takes its time. Prints as `sidecar.py` does, once the last of all connections is answered so.
"""

import asyncio
import os
import sys
import time
from typing import Final

import aiohttp
from aiohttp import web

from tests.perf.revoke.sidecar import AGENT, TOOL

CONNECTIONS: Final = 4  # to each Envoy
UPSTREAM_SECONDS: Final = 0.005
CALL: Final = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": TOOL}}
HEADERS: Final = {
    "X-MCP-Agent-ID": AGENT,
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2025-06-18",
}


class Answers:
    """What each connection got last. Args: count: of connections."""

    def __init__(self, count: int) -> None:
        self._last = [""] * count
        self._told = ""

    def note(self, connection: int, effect: str) -> None:
        """Tell when all are of one mind."""
        self._last[connection] = effect
        if effect != self._told and all(each == effect for each in self._last):
            self._told = effect
            os.write(1, f"{effect} {time.monotonic_ns()}\n".encode())


async def keep_calling(port: int, connection: int, answers: Answers) -> None:
    """For ever."""
    url = f"http://127.0.0.1:{port}/mcp"
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        while True:
            async with session.post(url, json=CALL) as answer:
                is_answer = b"isError" in await answer.read()
            answers.note(connection, "allow" if is_answer else "deny")


async def serve(_: web.Request) -> web.Response:
    """An MCP server that does nothing, slowly."""
    await asyncio.sleep(UPSTREAM_SECONDS)
    result = {"content": [], "isError": False}
    return web.json_response({"jsonrpc": "2.0", "id": 1, "result": result})


async def main(upstream: int, ports: list[int]) -> None:
    """Until killed. Args: upstream: where to serve; ports: the Envoys'."""
    app = web.Application()
    app.router.add_post("/mcp", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", upstream).start()
    each_connection = [port for port in ports for _ in range(CONNECTIONS)]
    answers = Answers(len(each_connection))
    await asyncio.gather(
        *(keep_calling(port, place, answers) for place, port in enumerate(each_connection))
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), [int(each) for each in sys.argv[2:]]))

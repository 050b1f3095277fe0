"""What the supervisor of `sentinel up` answers the api, on a socket that nobody else can open.

`GET /` tells of what runs beside the backend; `POST /restart/sidecar` (or `ui`) starts it again,
and answers once it serves.
"""

import os
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from backend.cli.processes import Died
from backend.cli.supervisor import Supervisor
from backend.ports.cluster import Kept
from extauthz.core.errors import Conflict

# The programs of each component that is restarted as a whole.
PROGRAMS: Final = {"sidecar": ("envoy", "decision-point"), "ui": ("ui",)}
MODE: Final = 0o600


class Control:
    """Listens from `start` to `stop`.

    Args:
        path: of the socket; made with mode 0600.
        describe: tells of what runs.
    """

    def __init__(
        self, path: Path, supervisor: Supervisor, describe: Callable[[], Awaitable[Kept]]
    ) -> None:
        self._path, self._supervisor, self._describe = path, supervisor, describe
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.add_routes([web.get("/", self._tell), web.post("/restart/{key}", self._restart)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.SockSite(self._runner, _listen(self._path)).start()

    async def stop(self) -> None:
        """Answer nobody any more. Idle where it never started."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _tell(self, _: web.Request) -> web.Response:
        body = msgspec.json.encode(await self._describe())
        return web.Response(body=body, content_type="application/json")

    async def _restart(self, request: web.Request) -> web.Response:
        programs = PROGRAMS.get(request.match_info["key"])
        if programs is None:
            return web.Response(status=HTTPStatus.NOT_FOUND, text="nothing of that name runs here")
        try:
            await self._supervisor.restart(programs)
        except (Conflict, Died) as error:
            return web.Response(status=HTTPStatus.CONFLICT, text=str(error))
        return web.Response(text="ok")


def _listen(path: Path) -> socket.socket:
    """A socket in a folder however deep, although its own path is limited (Linux)."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.fchmod(listening.fileno(), MODE)  # before anybody can see it
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        listening.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    listening.listen()
    return listening

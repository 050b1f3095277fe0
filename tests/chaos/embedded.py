"""The embedded wiring: `sentinel up`, whose supervisor starts again what dies."""

import asyncio
import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from backend.adapters.sqlite_log import SqliteLog
from backend.ports.event_log import EventLog
from tests.chaos import moments
from tests.chaos.calls import Gateway
from tests.chaos.clock import Clock
from tests.chaos.faults import Run
from tests.tools.sentinel_up import Up, free_base
from tests.tools.stack_part import waiting
from tests.tools.waiting import soon

# The supervisor gives up on what dies more often in a row.
DEATHS = 4
POINT, BACKEND = "decision-point", "backend"


class Embedded:
    """One machine, SQLite log and chDB in one backend process.

    Args:
        run: see there.
        mode: AUDIT_MODE.
    """

    def __init__(self, run: Run, mode: str) -> None:
        self.run, self.mode, self.name = run, mode, f"embedded, {mode}:"
        self.clock = Clock(run.folder / "clock")
        self.state = run.folder / "state"
        self._base = free_base()
        spool = self.state / "spool"
        url = f"http://127.0.0.1:{self._base + 11}/mcp"
        self.gateway = Gateway("sidecar", url, mode == "durable", spool)
        self.gateways = [self.gateway]
        self.deaths: Counter[str] = Counter()
        self._up: Up | None = None

    @property
    def store(self) -> Path:
        return self.state / "store"

    @property
    def up(self) -> Up:
        assert self._up is not None, "it was not started"
        return self._up

    @property
    def log_file(self) -> Path:
        return self.state / "log.db"

    @property
    def ingest_url(self) -> str:
        return self.up.endpoints["ingest"] + "/events"

    @property
    def ingest_key(self) -> str:
        return (self.state / "ingest.key").read_text().strip()

    def event_log(self) -> EventLog:
        return SqliteLog(self.log_file, clock=time.time, retention_seconds=1e6)

    def pid(self, component: str) -> int:
        """0 while it is down."""
        record: dict[str, Any] = json.loads((self.state / "state.json").read_text())
        return next(int(c["pid"]) for c in record["components"] if c["name"] == component)

    async def start(self) -> None:
        path = os.environ.get("PYTHONPATH", "")
        environ = {
            "AUDIT_MODE": self.mode,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self.clock.path), path])),
        }
        base = ("--port-base", str(self._base))
        self._up = await asyncio.to_thread(Up, self.state, *base, environ=environ)
        self.deaths.clear()

    async def stop(self) -> None:
        assert await asyncio.to_thread(self.up.stop) == 0, self.up.log.read_text()[-4000:]
        self.gateway.note_start()

    async def is_quiet(self) -> bool:
        if await asyncio.to_thread(waiting, f"http://127.0.0.1:{self._base + 12}"):
            return False
        committed, last = self.offsets()
        return committed > last

    async def end(self) -> None:
        if self._up and self._up.process.poll() is None:
            await asyncio.to_thread(self._up.stop)

    async def kill_point(self, pid: int = 0) -> None:
        """SIGKILL the decision point; the supervisor starts another."""
        await moments.kill(pid or self.pid(POINT))
        self.gateway.note_start()
        self.deaths[POINT] += 1

    async def kill_backend(self, pid: int = 0) -> None:
        """SIGKILL ingest, processor, api and store at once; the supervisor starts them again."""
        await moments.kill(pid or self.pid(BACKEND))
        self.deaths[BACKEND] += 1

    async def kill_supervisor(self) -> None:
        """SIGKILL `sentinel up`: its guard ends the rest; then somebody starts it again."""
        async with self.gateway.outage():
            self.up.process.kill()
            await asyncio.to_thread(self.up.wait)
            await soon(lambda: asyncio.to_thread(self.up.is_gone), "all programs end", every=0.1)
            self.gateway.note_start()
            await self.start()

    async def backend_ready(self) -> None:
        """Wait until ingest and api are ready."""
        async with aiohttp.ClientSession() as session:
            for part in ("ingest", "api"):
                ready = partial(_answers, session, self.up.endpoints[part] + "/ready")
                await soon(ready, f"{part} is ready", every=0.1)

    def is_tired(self) -> bool:
        """Whether one more death might be the supervisor's last."""
        return max(self.deaths.values(), default=0) >= DEATHS

    @contextmanager
    def log_held(self) -> Iterator[None]:
        """Nobody else writes to the event log meanwhile; reading goes on."""
        with closing(sqlite3.connect(self.log_file, isolation_level=None, timeout=30)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            yield
            holder.execute("ROLLBACK")

    def offsets(self) -> tuple[int, int]:
        """(next offset that the processor has committed, last offset in the log)."""
        with closing(sqlite3.connect(self.log_file, timeout=30)) as reader:
            committed = reader.execute("SELECT max(next_offset) FROM groups").fetchone()[0]
            last = reader.execute("SELECT max(offset) FROM records").fetchone()[0]
        return committed or 0, last or 0


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False

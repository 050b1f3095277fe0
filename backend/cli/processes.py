"""One child process of `sentinel up`: started, awaited, stopped."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from extauthz.core.errors import SentinelError

LOG_LINES = 6  # shown of a child that died
LOG_TAIL_BYTES = 16_384
POLL_SECONDS = 0.1

Probe = Callable[[], Awaitable[bool]]


async def _nothing() -> None:
    """What most programs need before they are stopped."""


@dataclass(frozen=True, slots=True)
class Program:
    """How to run one part of the stack.

    Args:
        name: as in `sentinel status`.
        argv: never holds a secret: `ps` shows it.
        environ: the whole environment.
        cwd: its working directory.
        log: takes its output.
        is_ready: answers true once it serves.
        ready_seconds: how long it may take until then.
        stop_seconds: how long it may drain after SIGTERM.
        before_stop: awaited before SIGTERM, such as draining connections.
        restarts: whether it is started again when it ends by itself.
    """

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)
    cwd: Path
    log: Path
    is_ready: Probe
    ready_seconds: float = 60.0
    stop_seconds: float = 10.0
    before_stop: Callable[[], Coroutine[None, None, None]] = _nothing
    restarts: bool = True


class Died(SentinelError):
    """A child ended by itself, or never became ready.

    Args:
        program: which.
        how: in words, such as `ended with exit status 1`.
        mend: what to do; by default to read its log.
    """

    def __init__(self, program: Program, how: str, mend: str = "") -> None:
        self.program = program
        super().__init__(f"{program.name} {how}; {mend or f'see {program.log}'}")


class Child:
    """A running, or ended, program.

    Attributes:
        starts: how often it was started.
        free: cleared while somebody stops it to start it again; who keeps it leaves it alone then.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.starts = 0
        self.free = asyncio.Event()
        self.free.set()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """0 while it does not run."""
        if self._process is None or self._process.returncode is not None:
            return 0
        return self._process.pid

    async def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only the supervisor.

        Raises:
            Died: it cannot be started at all.
        """
        program = self.program
        with program.log.open("ab") as log:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *program.argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=dict(program.environ),
                    cwd=program.cwd,
                    start_new_session=True,
                )
            except OSError as error:
                how = f"cannot be started (`{program.argv[0]}`: {error.strerror})"
                raise Died(program, how, "name a program that PATH finds") from error
        self.starts += 1

    async def wait_ready(self) -> None:
        """Wait until it serves.

        Raises:
            Died: it ended before, or took longer than its `ready_seconds`.
        """
        deadline = time.monotonic() + self.program.ready_seconds
        while not await self.program.is_ready():
            if not self.pid:
                raise Died(self.program, self.ending())
            if time.monotonic() > deadline:
                seconds = f"{self.program.ready_seconds:g}"
                raise Died(self.program, f"was not ready within {seconds} seconds")
            await asyncio.sleep(POLL_SECONDS)

    async def wait(self) -> None:
        """Wait until it ends."""
        if self._process is not None:
            await self._process.wait()

    def ending(self) -> str:
        """How it ended, in words."""
        code = self._process.returncode if self._process else None
        if code is None:
            return "is running"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit status {code}"

    async def stop(self, hurry: asyncio.Event) -> bool:
        """Ask it to end, and kill it at its deadline, or as soon as `hurry` is set.

        Returns:
            Whether it ended by itself.
        """
        if not self.pid:
            return True
        await _unless(hurry, self.program.before_stop(), self.program.stop_seconds)
        self._signal_group(signal.SIGTERM)
        await _unless(hurry, self.wait(), self.program.stop_seconds)
        in_time = not self.pid
        self._signal_group(signal.SIGKILL)  # it, or what it has left behind
        await self.wait()
        return in_time

    def log_tail(self) -> list[str]:
        """The last lines of its log."""
        try:
            with self.program.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                lines = log.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []
        return [line for line in lines if line.strip()][-LOG_LINES:]

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return


async def _unless(
    hurry: asyncio.Event, work: Coroutine[None, None, None], most_seconds: float
) -> None:
    """Do `work` for at most so long, and no longer than until `hurry` is set."""
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(hurry.wait())]
    await asyncio.wait(tasks, timeout=most_seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""Runs the programs of `sentinel up` together: starts, keeps and stops them in order."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import stamina
from rich.console import Console

from backend.cli.console import printable
from backend.cli.processes import Child, Died, Program
from extauthz.core.errors import Conflict

# A program that ends by itself is started again, with back-off, this often in a row;
# one that ran STEADY_SECONDS in between counts from the start again.
RESTARTS = 5
STEADY_SECONDS = 60.0
MOST_WAIT_SECONDS = 10.0  # between two starts


class _RanSteadily(Exception):
    """It ended, but only after a long time: not a row of failures."""


class _WasRestarted(Exception):
    """It ended because somebody wanted it started anew."""


class Guard:
    """The process that ends all others once this one is gone (backend/cli/guard.py).

    Args:
        environ: of the guard; carries the run's token.
        lock: descriptor of the state folder's lock, kept until nothing is left to end.
    """

    def __init__(self, environ: Mapping[str, str], lock: int) -> None:
        self._environ, self._lock = dict(environ), lock
        self._pipe = -1
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        read_end, self._pipe = os.pipe()  # children do not inherit either end
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "backend.cli.guard"),
                stdin=read_end,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=self._environ,
                pass_fds=(self._lock,),
                start_new_session=True,
            )
        finally:
            os.close(read_end)

    async def stop(self) -> None:
        """Let it end whatever is left, and end itself."""
        if self._process is not None:
            os.close(self._pipe)
            await self._process.wait()


class Supervisor:
    """Keeps a stack of programs.

    Args:
        programs: in the order of their start; each group starts at the same time.
        stop_order: names, in the order in which they stop.
        console: takes progress.
        changed: called when a pid has changed.
    """

    def __init__(
        self,
        programs: Sequence[Sequence[Program]],
        stop_order: Sequence[str],
        console: Console,
        changed: Callable[[], None],
    ) -> None:
        self._groups = [[Child(program) for program in group] for group in programs]
        self._stop_order, self._console, self._changed = stop_order, console, changed
        self.children = [child for group in self._groups for child in group]
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        self._turn = asyncio.Lock()  # one restart at a time
        self._restarting: asyncio.Task[None] | None = None
        self._keeps = False

    def on_signal(self) -> None:
        """First signal: stop in order; second: at once."""
        if self.stopping.is_set() and not self.hurry.is_set():
            self._console.print("hurrying: what has not ended is killed")
            self.hurry.set()
        self.stopping.set()

    async def start(self) -> None:
        """Start all and wait until each serves.

        Raises:
            Died: one did not come up.
        """
        for group in self._groups:
            names = ", ".join(child.program.name for child in group)
            with self._status(f"starting {names} …"):
                async with asyncio.TaskGroup() as tasks:
                    for child in group:
                        tasks.create_task(self._start(child))

    async def keep(self) -> None:
        """Start again what ends by itself, for as long as it is worth it.

        Raises:
            Died: one that is not to be started again, or not any more.
        """
        self._keeps = True
        async with asyncio.TaskGroup() as tasks:
            for child in self.children:
                tasks.create_task(self._keep(child))

    async def restart(self, names: Collection[str]) -> None:
        """Stop some programs in order, and start them again in theirs; until they serve.

        Raises:
            Conflict: the run is ending.
            Died: one did not come up; it is started again as any that ends by itself.
        """
        async with self._turn:
            if self.stopping.is_set() or not self._keeps:
                raise Conflict("`sentinel up` is starting or stopping; ask again once it runs")
            self._restarting = asyncio.create_task(self._restart(names), name="restart")
            await asyncio.wait([self._restarting])
            if self._restarting.cancelled():
                raise Conflict("`sentinel up` stopped meanwhile; start it again")
            self._restarting.result()

    async def _restart(self, names: Collection[str]) -> None:
        chosen = [child for child in self.children if child.program.name in names]
        self._say(f"restarting {', '.join(child.program.name for child in chosen)}, as asked")
        for child in chosen:
            child.free.clear()
        try:
            for child in self._in_stop_order(chosen):
                await child.stop(self.hurry)
            for group in self._groups:
                for child in (each for each in group if each in chosen):
                    await self._start(child)
        finally:
            for child in chosen:
                child.free.set()
            self._changed()

    def _in_stop_order(self, children: Iterable[Child]) -> list[Child]:
        order = {name: place for place, name in enumerate(self._stop_order)}
        return sorted(children, key=lambda child: order[child.program.name])

    async def stop(self) -> None:
        """Stop all in order, each under its deadline; a second signal cuts it short."""
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.wait([self._restarting])
        for child in self._in_stop_order(self.children):
            name = child.program.name
            if not child.pid:
                continue
            began = time.monotonic()
            with self._status(f"stopping {name} …"):
                in_time = await child.stop(self.hurry)
            seconds = time.monotonic() - began
            verdict = f"stopped ({seconds:.1f} s)" if in_time else "killed"
            self._say(f"{name}: {verdict}")

    async def _start(self, child: Child) -> None:
        began = time.monotonic()
        await child.start()
        try:
            await child.wait_ready()
        except Died:
            self.show_log(child)
            raise
        self._say(f"{child.program.name}: ready ({time.monotonic() - began:.1f} s)")

    async def _keep(self, child: Child) -> None:
        if not child.program.restarts:
            await child.wait()
            self._bury(child, "stopping")
            raise Died(child.program, child.ending())
        while True:
            with contextlib.suppress(_RanSteadily, _WasRestarted):
                await self._keep_through_failures(child)

    async def _keep_through_failures(self, child: Child) -> None:
        attempts = stamina.retry_context(
            on=Died,
            attempts=RESTARTS + 1,
            timeout=None,
            wait_initial=min(0.2, MOST_WAIT_SECONDS),
            wait_max=MOST_WAIT_SECONDS,
        )
        async for attempt in attempts:
            with attempt:
                if not child.pid:
                    await child.start()
                    self._changed()
                began = time.monotonic()
                await child.wait()
                if child.pid or not child.free.is_set():  # it did not end by itself
                    await child.free.wait()
                    raise _WasRestarted
                last = attempt.num > RESTARTS
                self._bury(child, "stopping: it ended too often" if last else "starting it again")
                if time.monotonic() - began > STEADY_SECONDS:
                    raise _RanSteadily
                raise Died(child.program, child.ending())

    def _bury(self, child: Child, then: str) -> None:
        self._changed()
        self._say(f"{child.program.name} {child.ending()}; {then}")
        self.show_log(child)

    def show_log(self, child: Child) -> None:
        """Print the last lines of a program's log."""
        for line in child.log_tail():
            self._say(f"  | {line}")

    def _say(self, line: str) -> None:
        self._console.print(printable(line), markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def _status(self, text: str) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(text):
            yield


def install_signals(loop: asyncio.AbstractEventLoop, handler: Callable[[], None]) -> None:
    """Ctrl-C, SIGTERM and a closed terminal all mean: stop in order."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, handler)

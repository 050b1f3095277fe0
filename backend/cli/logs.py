"""`sentinel logs`: what the pods of a component write, as one log."""

import asyncio
import heapq
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import click
from rich.text import Text

from backend.cli.aliases import key_of
from backend.cli.console import Failure, json_option, printable, stdout, warn
from backend.cli.operated import ClusterAt, on_cluster
from backend.ports.workloads import LogLine, LogRange, LogSource, Workloads
from extauthz.core.errors import Invalid, NotFound, Retryable, SentinelError
from extauthz.core.times import parse_duration

TAIL: Final = 200
LOOK_SECONDS: Final = 2.0  # for pods that are new
OVERLAP_SECONDS: Final = 10  # what is read twice after a break is shown once
COLOURS: Final = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green")


class Written(NamedTuple):
    """A line, and who wrote it."""

    line: LogLine
    source: LogSource


def _seconds(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    try:
        return max(1, round(parse_duration(value, ""))) if value else None
    except Invalid as error:
        raise click.BadParameter(str(error), ctx, param) from error


@click.command()
@click.argument("component")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, from new pods, too.")
@click.option("--previous", "-p", is_flag=True, help="Of the run before the last restart.")
@click.option(
    "--tail",
    type=click.IntRange(min=0),
    default=TAIL,
    show_default=True,
    help="Lines of each container.",
)
@click.option(
    "--since", callback=_seconds, default="", metavar="DURATION", help="No older ones, like 15m."
)
@json_option
@on_cluster
def logs(
    *,
    component: str,
    follow: bool,
    previous: bool,
    tail: int,
    since: int | None,
    as_json: bool,
    at: ClusterAt,
) -> None:
    """Print what the pods of COMPONENT wrote: ingest, processor, api, kafka and others.

    The lines of all of them are in the order in which they were written; while following, as they
    come.
    """
    if follow and previous:
        raise click.UsageError("--previous has ended, and --follow goes on; give one of the two")
    which = LogRange(tail=tail, since_seconds=since, previous=previous, follow=follow)
    try:
        asyncio.run(_print(at, key_of(component), which, _as_json if as_json else Coloured()))
    except KeyboardInterrupt:
        return


async def _print(at: ClusterAt, key: str, which: LogRange, show: Callable[[Written], None]) -> None:
    async with at.opened() as workloads:
        if which.follow:
            async for written in Following(workloads, key, which).lines():
                show(written)
        else:
            for written in await merged(workloads, key, which):
                show(written)


async def merged(workloads: Workloads, key: str, which: LogRange) -> Sequence[Written]:
    """Lines of all containers, the oldest first.

    Raises:
        Failure: none of them has a log.
    """
    sources = await workloads.log_sources(key)
    if not sources:
        raise Failure(f"`{key}` has no pods; see `sentinel status`")
    faults: list[str] = []

    async def read(source: LogSource) -> list[Written]:
        try:
            return [Written(line, source) async for line in workloads.log_lines(source, which)]
        except (NotFound, Invalid) as error:  # it has not started, or never ended
            faults.append(f"{source.pod} {source.container}: {error}")
            return []

    found = await asyncio.gather(*map(read, sources))
    if len(faults) == len(sources):
        raise Failure(f"no container of `{key}` has such a log: {faults[0]}")
    for fault in faults:
        warn(f"note: {fault}")
    return list(heapq.merge(*found, key=lambda written: written.line.at))


@dataclass(slots=True)
class Following:
    """Lines as they come, from the pods that there are, whichever these are."""

    workloads: Workloads
    key: str
    which: LogRange
    _came: asyncio.Queue[Written | SentinelError] = field(default_factory=asyncio.Queue)
    # When its last line was written, by its own clock, and came, by ours.
    _last: dict[LogSource, tuple[str, float]] = field(default_factory=dict)
    _reading: dict[LogSource, asyncio.Task[None]] = field(default_factory=dict)

    async def lines(self) -> AsyncIterator[Written]:
        """Endless. Raises: SentinelError: before anything is followed."""
        which = self.which
        await self._look(which)
        looking = asyncio.create_task(self._keep_looking())
        try:
            while True:
                came = await self._came.get()
                if isinstance(came, SentinelError):
                    raise came
                yield came
        finally:
            for task in (looking, *self._reading.values()):
                task.cancel()

    async def _keep_looking(self) -> None:
        is_away = False
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                # All of what is new: nothing that a new pod says first is left out.
                await self._look(LogRange(follow=True))
            except Retryable as error:
                if not is_away:
                    warn(f"{error}; trying again until it does")
                is_away = True
            except SentinelError as error:
                self._came.put_nowait(error)
                return
            else:
                is_away = False

    async def _look(self, which: LogRange) -> None:
        for source in await self.workloads.log_sources(self.key):
            task = self._reading.get(source)
            if task is None or task.done():
                self._reading[source] = asyncio.create_task(self._read(source, which))

    async def _read(self, source: LogSource, which: LogRange) -> None:
        """Until the container or the connection ends; then it is read again, if it is there."""
        since, came_at = self._last.get(source, ("", 0.0))
        if since:
            ago = int(time.monotonic() - came_at + OVERLAP_SECONDS)
            which = LogRange(since_seconds=ago, follow=True)
        try:
            async for line in self.workloads.log_lines(source, which):
                if line.at > since:
                    self._last[source] = (line.at, time.monotonic())
                    self._came.put_nowait(Written(line, source))
        except (NotFound, Invalid, Retryable):  # it has not started yet, or is gone
            return


class Coloured:
    """Prints a line with its pod in front, each pod in a colour of its own."""

    def __init__(self) -> None:
        self._colours: dict[str, str] = {}
        self._console = stdout()

    def __call__(self, written: Written) -> None:
        pod, container = written.source
        known = self._colours
        colour = known.setdefault(pod, COLOURS[len(known) % len(COLOURS)])
        text = Text(f"{printable(pod)} {printable(container)} ", style=colour)
        text.append(printable(written.line.text), style="default")
        self._console.print(text, soft_wrap=True)


def _as_json(written: Written) -> None:
    pod, container = written.source
    at, text = written.line
    told = {"at": at, "pod": pod, "container": container, "line": text}
    print(json.dumps(told), flush=True)

"""`sentinel replay`: what lies in a log or in an export, into a fresh or half-filled store."""

import asyncio
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from backend import replay as wired
from backend.cli.console import FAILED, cell, json_option, print_unfolded, stderr
from backend.settings import Settings
from extauthz.core import config
from extauthz.core.errors import Conflict, Invalid

SHOW_SECONDS = 0.2  # between two looks at the progress
OPTIONS = {"EVENT_LOG_URL": "--from", "STORE_URL": "--to"}


@click.command()
@click.option(
    "--from",
    "source",
    required=True,
    metavar="SOURCE",
    help="sqlite:///path, kafka://host:9092/topic, or the path of an NDJSON export.",
)
@click.option(
    "--to",
    "target",
    required=True,
    metavar="STORE",
    help="chdb:///path or clickhouse://host:8123/database; made where it does not exist.",
)
@json_option
@click.pass_context
def replay(context: click.Context, source: str, target: str, as_json: bool) -> None:
    """Store every event of a log that the store does not hold yet.

    Stop it as you like: the same command goes on, and nothing is stored twice. The source stays
    as it is; how to reach Kafka is told by the same settings as for the backend.
    """
    logging.getLogger("backend.processor").setLevel(logging.ERROR)  # the summary tells the rest
    progress, finished = _run(_settings(source, target), shows=not as_json)
    _print(progress, finished, as_json=as_json)
    if not finished:
        stderr().print("interrupted; the same command goes on where this one ended")
    if progress.missing:
        stderr().print(
            f"the log did not give {progress.missing} records that it should hold: they were"
            " deleted, or it went away; run the same command again to be sure"
        )
    if not finished or progress.missing or progress.poison:
        context.exit(FAILED)


def _settings(source: str, target: str) -> Settings:
    url = source if "://" in source else Path(source).resolve().as_uri()
    environ = {**os.environ, "EVENT_LOG_URL": url, "STORE_URL": target}
    with _options_named():
        return config.load(Settings, environ, lambda path: Path(path).read_text("utf-8"))


@contextmanager
def _options_named() -> Iterator[None]:
    """Errors name the option where the setting came from one."""
    try:
        yield
    except Invalid as error:
        raise Invalid(OPTIONS.get(error.field, error.field), error.problem, error.mend) from error


def _run(settings: Settings, *, shows: bool) -> tuple[wired.Progress, bool]:
    """How far it came, and whether that is the end."""
    seen: list[wired.Replay] = []

    async def run() -> None:
        with _options_named():
            async with wired.opened(settings) as replay:
                seen.append(replay)
                await _until_done(replay, shows=shows)

    try:
        asyncio.run(run())
    except Conflict as error:
        if seen:
            raise
        raise Conflict(
            f"{error}; what `sentinel up` owns can be filled only while it is stopped"
        ) from error
    except KeyboardInterrupt:
        if not seen:
            raise
        return seen[0].progress, False
    return seen[0].progress, True


async def _until_done(replay: wired.Replay, *, shows: bool) -> None:
    running = asyncio.create_task(replay.run())
    with _bar(shows=shows) as bar:
        task = bar.add_task("events", total=None)
        try:
            while not running.done():
                await asyncio.wait([running], timeout=SHOW_SECONDS)
                now = replay.progress
                bar.update(task, completed=now.read, total=now.total or None)
        finally:
            running.cancel()  # it ends the insert that runs
            await asyncio.wait([running])
    await running


def _bar(*, shows: bool) -> Progress:
    console = stderr()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
        console=console,
        disable=not shows or not console.is_terminal,
        transient=True,
    )


class _Speed(ProgressColumn):
    """Events a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


def _print(progress: wired.Progress, finished: bool, *, as_json: bool) -> None:
    counts = {
        "read": progress.read,
        "stored": progress.stored,
        "already there": progress.present,
        "copies of others": progress.copies,
        "never to be stored": progress.poison,
    }
    letters = [(letter.record.position, letter.why) for letter in progress.listed]
    if as_json:
        listed = [{"id": str(at), "reason": why} for at, why in letters]
        members = {name.replace(" ", "_"): count for name, count in counts.items()}
        print(json.dumps(members | {"finished": finished, "dead_letters": listed}))
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    print_unfolded(table)
    for at, why in letters:
        stderr().print(cell(f"{at}: {why}"))
    if progress.poison > len(letters):
        stderr().print(f"and {progress.poison - len(letters)} more")

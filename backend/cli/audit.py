"""`sentinel audit completeness`: whether the audit trail is whole, as a report."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import aiohttp
import click
from rich.table import Table

from backend.cli.console import FAILED, Group, cell, stdout
from backend.cli.options import moment, output_option, print_told
from backend.cli.running import Api, api_options, get_json
from backend.cli.tables import aligned

Report = dict[str, Any]  # as the api sends it
Start = dict[str, Any]

ANSWER_SECONDS = 60.0  # a long time takes a while to look through
MOST_RANGES = 20  # shown of one start; --json has them all
_NUMBERS = ("STORED", "MISSING", "TWICE")
STYLES = {
    "complete": "green",
    "explained": "yellow",
    "settling": "yellow",
    "duplicates": "red",
    "holes": "red",
}


@click.group(cls=Group)
def audit() -> None:
    """Prove the audit trail."""


@audit.command()
@click.option(
    "--since",
    default="1h",
    show_default=True,
    callback=moment,
    metavar="WHEN",
    help="So long ago (1h30m), or a time (RFC 3339).",
)
@click.option("--until", default="", callback=moment, metavar="WHEN", help="Default: now.")
@output_option("the starts of gateways that are not complete")
@api_options
def completeness(*, since: str, until: str, output: str, api: Api) -> None:
    """Tell whether every event that the gateways numbered is stored, once.

    \b
    complete    each number is stored, once
    explained   what is missing lies in ranges that gap events name
    settling    what is missing may still be told of; ask again in a minute
    duplicates  alarm: a number is stored more than once
    holes       alarm: something is missing that no gap event names

    Exit code 0 without an alarm, 1 with one.
    """
    query = {"since": since} | ({"until": until} if until else {})
    report = asyncio.run(_report(api, query))
    starts = (s["gateway_start"] for s in report["starts"] if s["verdict"] != "complete")
    if not print_told(output, report, starts):
        show(report)
    if report["alarm"]:
        raise SystemExit(FAILED)


async def _report(api: Api, query: dict[str, str]) -> Report:
    url = api.at(f"/api/audit/completeness?{urlencode(query)}")
    async with aiohttp.ClientSession() as session:
        report: Report = await get_json(session, url, api.key, answer_seconds=ANSWER_SECONDS)
    return report


def show(report: Report) -> None:
    """Print a report for people; strings of gateways are shown literally."""
    console, starts = stdout(), report["starts"]
    console.print(cell(_headline(report), STYLES.get(report["verdict"], "")), soft_wrap=True)
    tables = [_starts(starts, console.width), _ranges(starts), _next_steps(starts)]
    for table in tables:
        if table.row_count:
            console.print()
            console.print(table)
    for line in _notes(report):
        console.print()
        console.print(cell(line), soft_wrap=True)


def _headline(report: Report) -> str:
    totals = report["totals"]
    parts = [f"{totals['present']} events of {totals['starts']} starts"]
    parts += [
        f"{totals[name]} {said}"
        for name, said in (
            ("explained", "told as lost"),
            ("settling", "perhaps still to come"),
            ("unexplained", "missing without a word"),
            ("duplicates", "stored twice"),
        )
        if totals[name]
    ]
    window = f"{_second(report['since'])} to {_second(report['until'])}"
    return f"{report['verdict']}: {', '.join(parts)}; {window}"


def _starts(starts: list[Start], width: int) -> Table:
    columns: list[tuple[str, int, Callable[[Start], object]]] = [
        ("VERDICT", 0, lambda s: s["verdict"]),
        ("TAIL", 0, lambda s: s["tail"]),
        ("SERVER", 100, lambda s: "/".join(filter(None, (s["namespace"], s["server"])))),
        ("GATEWAY", 0, lambda s: s["gateway"] + (" (undecided)" if s["undecided"] else "")),
        ("PRODUCER", 160, lambda s: s["producer"]),
        ("BEGAN", 0, lambda s: _second(s["began_at"])[0 if width >= 140 else 11 :]),
        ("NUMBERS", 0, lambda s: span(s["first"], s["end"])),
        ("STORED", 0, lambda s: s["present"]),
        ("MISSING", 0, lambda s: s["missing"]),
        ("TWICE", 0, lambda s: s["duplicates"]),
    ]
    shown = [column for column in columns if width >= column[1]]
    table = aligned("#", *(name for name, _, _ in shown), numbers=_NUMBERS)
    for place, start in enumerate(starts, 1):
        cells = [cell(value(start)) for _, _, value in shown]
        cells[0].stylize(STYLES.get(start["verdict"], ""))
        table.add_row(cell(place), *cells)
    return table


def _ranges(starts: list[Start]) -> Table:
    """What is missing, start by start."""
    table = aligned("#", "MISSING", "COUNT", "WHY", numbers=("COUNT",))
    for place, start in enumerate(starts, 1):
        for hole in start["holes"][:MOST_RANGES]:
            told = hole["state"] == "explained"
            why = cell(hole["cause"] if told else hole["state"], "" if told else STYLES["holes"])
            table.add_row(cell(place), span(hole["first"], hole["last"]), str(hole["count"]), why)
        if (more := len(start["holes"]) - MOST_RANGES) > 0:
            table.add_row(cell(place), "…", "", f"{more} ranges more; see --json")
    return table


def _next_steps(starts: list[Start]) -> Table:
    """What to do, each said once."""
    table = aligned("#", "NEXT STEP", wrapped=("NEXT STEP",))
    places: dict[str, list[str]] = {}
    for place, start in enumerate(starts, 1):
        if start["next_step"]:
            places.setdefault(start["next_step"], []).append(str(place))
    for step, found in places.items():
        table.add_row(cell(", ".join(found[:5]) + (" …" if len(found) > 5 else "")), cell(step))
    return table


def _notes(report: Report) -> Iterator[str]:
    if not report["starts"]:
        yield "no gateway sent a numbered event in this time"
    if left := report["starts_left_off"]:
        yield f"{left} further starts are not listed, none of them worse; ask for less time"
    if report["holes_left_off"]:
        yield "there are more holes than were looked at; ask for less time"
    for gap in report["gaps_of_unknown_starts"]:
        yield f"lost, of an unknown start, at {_second(gap['at'])}: {gap['cause']}"
    for each in report["unnumbered"]:
        yield (
            f"{each['events']} events of `{each['producer']}` are not numbered: "
            "nothing is proven about them"
        )


def span(first: int, last: int) -> str:
    """A range as short as can be; nothing is stored where it begins at 0."""
    return f"{first}-{last}" if last > first > 0 else str(first or "-")


def _second(time_written: str | None) -> str:
    """An RFC 3339 time in UTC, to the second."""
    return f"{time_written[:19]}Z" if time_written else "-"

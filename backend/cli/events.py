"""`sentinel events`: the audit trail, as a table or as JSON lines."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import click
import stamina
import stamina.instrumentation
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backend.cli.console import cell, json_option, printable, stderr, stdout
from backend.cli.running import Api, Unreachable, api_options, get_json

Event = dict[str, Any]  # as the api sends it: foreign producers put in what they like

POLL_SECONDS = 1.0
AGAIN_SECONDS = 5.0  # longest pause between two tries while the api is away
MOST = 1000  # what the api gives at once
# Heading, share of the width, and the least terminal that shows it. Shares, not
# contents, make the widths: so the lines that --follow prints stay aligned.
COLUMNS = (
    ("REASON", 20, 0),
    ("TOOL", 16, 0),
    ("WHO", 18, 0),
    ("STATUS", 7, 100),
    ("LATENCY", 10, 100),
    ("SERVER", 26, 120),
    ("SESSION", 12, 140),
)
# The least terminal, and of RFC 3339 in UTC what it shows: whole, the time, to the second.
TIMES = ((160, slice(0, 24)), (80, slice(11, 24)), (0, slice(11, 19)))
STYLES = {"allow": "green", "deny": "red"}


@click.command()
@click.option("--limit", type=click.IntRange(1, MOST), default=20, show_default=True)
@click.option("--follow", is_flag=True, help="Go on printing new events until Ctrl-C.")
@api_options
@json_option
def events(*, limit: int, follow: bool, api: Api, as_json: bool) -> None:
    """Show the newest events, oldest first.

    A call shows about two seconds after its end.
    """
    try:
        asyncio.run(_show(api, limit, follow, as_json))
    except KeyboardInterrupt:
        return


async def _show(api: Api, limit: int, follow: bool, as_json: bool) -> None:
    console, heading = stdout(), True
    stamina.instrumentation.set_on_retry_hooks([])  # `_page` says it itself, once
    async with aiohttp.ClientSession() as session:
        async for batch in batches(session, api, limit, follow):
            if as_json:
                for event in batch:
                    print(json.dumps(event), flush=True)
            elif batch or heading:
                console.print(table(batch, heading=heading, console=console))
                heading = False


async def batches(
    session: aiohttp.ClientSession, api: Api, limit: int, follow: bool
) -> AsyncIterator[list[Event]]:
    """What was there, then, when following, what is new; each oldest first."""
    page = await _page(session, api, MOST if follow else limit)
    yield page[:limit][::-1]
    while follow:
        seen = frozenset(identity(event) for event in page)
        await asyncio.sleep(POLL_SECONDS)
        page = await _next_page(session, api)
        fresh = [event for event in page if identity(event) not in seen]
        if len(fresh) == MOST:
            stderr().print(f"more than {MOST} events came at once; the oldest are not shown")
        yield fresh[::-1]


async def _page(session: aiohttp.ClientSession, api: Api, limit: int) -> list[Event]:
    answer = await get_json(session, api.at(f"/api/events?limit={limit}"), api.key)
    events: list[Event] = answer["events"]
    return events


async def _next_page(session: aiohttp.ClientSession, api: Api) -> list[Event]:
    """The newest events, once the api answers: a backend may be started again meanwhile."""
    was_away = False

    def is_away(error: Exception) -> bool:
        nonlocal was_away
        if isinstance(error, Unreachable) and not was_away:
            was_away = True
            stderr().print(printable(f"{error.message}; trying again until it is"), markup=False)
        return isinstance(error, Unreachable)

    page: list[Event] = []
    async for attempt in stamina.retry_context(
        on=is_away, attempts=None, timeout=None, wait_max=AGAIN_SECONDS
    ):
        with attempt:
            page = await _page(session, api, MOST)
    if was_away:
        stderr().print("the api answers again")
    return page


def identity(event: Event) -> str:
    """What tells two events apart: the id, and for a foreign one without, all of it."""
    return str(event.get("event_id") or json.dumps(event, sort_keys=True))


def table(batch: list[Event], *, heading: bool, console: Console) -> Table:
    """Lay events out; strings of callers are shown literally."""
    shown = Table(box=None, expand=True, show_header=heading, pad_edge=False, header_style="bold")
    part = next(part for least, part in TIMES if console.width >= least)
    shown.add_column("TIME", width=part.stop - part.start, no_wrap=True)
    shown.add_column("DECISION", width=len("DECISION"), no_wrap=True)
    columns = [column for column in COLUMNS if console.width >= column[2]]
    for name, share, _ in columns:
        shown.add_column(name, ratio=share, overflow="ellipsis", no_wrap=True)
    for event in batch:
        shown.add_row(*_row(event, part)[: 2 + len(columns)])
    return shown


def _row(event: Event, part: slice) -> list[Text]:
    payload = event.get("payload")
    members = payload if isinstance(payload, dict) else {}
    decision = str(members.get("decision", ""))
    return [
        cell(str(event.get("timestamp", ""))[part]),
        cell(decision or "-", STYLES.get(decision, "")),
        cell(members.get("reason") or event.get("event_type")),
        cell(members.get("tool_name") or members.get("rpc_method")),
        cell(_who(members)),
        cell(members.get("status")),
        cell(_latency(members.get("latency_ms"))),
        cell(_server(members)),
        cell(members.get("session_id")),
    ]


def _who(members: Event) -> str:
    known = (members.get("agent_id"), members.get("human_id"))
    return " for ".join(str(name) for name in known if name)


def _server(members: Event) -> str:
    known = (members.get("namespace"), members.get("server"))
    return "/".join(str(name) for name in known if name)


def _latency(value: object) -> str:
    return f"{value:.1f} ms" if isinstance(value, int | float) else ""

"""`sentinel events`: the audit trail, by every filter of the api."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import click
import stamina
import stamina.instrumentation
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backend.cli.console import Command, cell, printable, stderr, stdout
from backend.cli.options import moment, output_option, print_told
from backend.cli.running import Api, Unreachable, api_options, get_json

Event = dict[str, Any]  # as the api sends it: foreign producers put in what they like

POLL_SECONDS = 1.0
AGAIN_SECONDS = 5.0  # longest pause between two tries while the api is away
MOST = 1000  # what the api gives at once
MOST_PAGES = 20  # that are looked through for what is new
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


# Option, parameter of the api, and help.
FILTERS = (
    ("--server", "server", "MCP server that was called."),
    ("--namespace", "namespace", "Its namespace."),
    ("--cluster", "cluster", "Its cluster."),
    ("--owner-team", "team_id", "Team that owns it; not the caller's, which is no filter."),
    ("--human", "human_id", "Human on whose behalf calls were made."),
    ("--agent", "agent_id", "Agent that made them."),
    ("--session", "session_id", "Agent session."),
    ("--decision", "decision", "allow or deny."),
    ("--reason", "reason", "Reason code of the decision, such as trust_too_low."),
    ("--tool", "tool_name", "Tool that was called."),
    ("--source", "source", "Who sent events, such as mcp-proxy."),
    ("--type", "event_type", "Such as mcp.request or governance.change."),
    ("--trace", "trace_id", "W3C trace id."),
    ("--request-id", "request_id", "The HTTP request's x-request-id."),
    ("--producer", "producer", "Credential that sent them."),
)


def _blank(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A filter that a script left empty must not show everything."""
    if value is not None and not value.strip():
        raise click.BadParameter("is blank; leave it out to see all", ctx, param)
    return value


def _filters(command: Command) -> Command:
    """An option for each filter of the api, under the name of the api's parameter."""
    for option, name, help in reversed(FILTERS):
        command = click.option(option, name, callback=_blank, help=help)(command)
    return command


@click.command()
@_filters
@click.option("--since", default="", callback=moment, metavar="WHEN", help="The earliest time.")
@click.option(
    "--until",
    default="",
    callback=moment,
    metavar="WHEN",
    help="The end of the time. WHEN: so long ago (1h30m), or a time (RFC 3339).",
)
@click.option("--limit", type=click.IntRange(1, MOST), default=20, show_default=True)
@click.option("--follow", is_flag=True, help="Go on printing new events until Ctrl-C.")
@output_option("ids, as `explain` takes them")
@api_options
def events(
    *, since: str, until: str, limit: int, follow: bool, output: str, api: Api, **texts: str | None
) -> None:
    """Show the newest events that match all filters, oldest first.

    A call shows about two seconds after its end. JSON has a line for each event, YAML a document.
    """
    if follow and until:
        raise click.UsageError("--follow never ends, and --until does; give one of the two")
    asked = {"since": since, "until": until, **{n: v for n, v in texts.items() if v}}
    query = {name: value for name, value in asked.items() if value}
    try:
        asyncio.run(_show(Trail(api, query), limit, follow, output))
    except KeyboardInterrupt:
        return


async def _show(trail: "Trail", limit: int, follow: bool, output: str) -> None:
    console, heading = stdout(), True
    stamina.instrumentation.set_on_retry_hooks([])  # `Trail` says it itself, once
    async with aiohttp.ClientSession() as session:
        async for batch in trail.batches(session, limit, follow):
            if output != "table":
                for event in batch:
                    if output == "yaml":
                        print("---")
                    print_told(output, event, [event.get("event_id", "")])
            elif batch or heading:
                console.print(table(batch, heading=heading, console=console))
                heading = False


@dataclass(frozen=True, slots=True)
class Trail:
    """The events of an api that match.

    Args:
        query: parameters of `/api/events`, without a limit.
    """

    api: Api
    query: dict[str, str]

    async def batches(
        self, session: aiohttp.ClientSession, limit: int, follow: bool
    ) -> AsyncIterator[list[Event]]:
        """What was there, then, when following, what is new; each oldest first."""
        page, _ = await self._page(session, MOST if follow else limit)
        yield page[:limit][::-1]
        while follow:
            seen = frozenset(identity(event) for event in page)
            await asyncio.sleep(POLL_SECONDS)
            page, fresh = await self._newest(session, seen)
            yield fresh[::-1]

    async def _newest(
        self, session: aiohttp.ClientSession, seen: frozenset[str]
    ) -> tuple[list[Event], list[Event]]:
        """The newest page, and what is not among `seen`: that of pages behind it, too."""
        page, cursor = await self._patiently(session)
        fresh = [event for event in page if identity(event) not in seen]
        more = len(fresh) == len(page)
        for _ in range(MOST_PAGES):
            if not (more and cursor and seen):
                return page, fresh
            behind, cursor = await self._page(session, MOST, cursor)
            new = [event for event in behind if identity(event) not in seen]
            more = len(new) == len(behind)
            fresh += new
        if more and cursor:
            stderr().print(f"more than {len(fresh)} events came at once; older ones are not shown")
        return page, fresh

    async def _page(
        self, session: aiohttp.ClientSession, limit: int, cursor: str = ""
    ) -> tuple[list[Event], str]:
        """Newest first, and the cursor of what lies behind; empty where nothing does."""
        asked = self.query | {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        url = self.api.at(f"/api/events?{urlencode(asked)}")
        answer = await get_json(session, url, self.api.key)
        return answer["events"], (answer.get("meta") or {}).get("next_cursor", "")

    async def _patiently(self, session: aiohttp.ClientSession) -> tuple[list[Event], str]:
        """The newest page, once the api answers: a backend may be started again meanwhile."""
        was_away = False

        def is_away(error: Exception) -> bool:
            nonlocal was_away
            if isinstance(error, Unreachable) and not was_away:
                was_away = True
                told = printable(f"{error.message}; trying again until it is")
                stderr().print(told, markup=False)
            return isinstance(error, Unreachable)

        found: tuple[list[Event], str] = [], ""
        async for attempt in stamina.retry_context(
            on=is_away, attempts=None, timeout=None, wait_max=AGAIN_SECONDS
        ):
            with attempt:
                found = await self._page(session, MOST)
        if was_away:
            stderr().print("the api answers again")
        return found


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

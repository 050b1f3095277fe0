"""`sentinel dlq`: records that could never be stored, to look at, to try again, and to drop."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from urllib.parse import urlencode

import aiohttp
import click

from backend.cli.console import Failure, Group, cell, json_option, printable, stderr, stdout
from backend.cli.running import Api, Missing, api_options, get_json
from backend.cli.tables import aligned
from extauthz.core.times import parse_instant

Letter = dict[str, Any]  # as the api sends it
Command = Callable[..., Any]

PAGE = 1000  # what the api gives at once
ANSWER_SECONDS = 30.0
_AGES = ((86400, "d"), (3600, "h"), (60, "m"))


@click.group(cls=Group)
def dlq() -> None:
    """Look after dead letters: records that could never be stored."""


@dlq.command("list")
@click.option("--limit", type=click.IntRange(1, PAGE), default=100, show_default=True)
@api_options
@json_option
def list_letters(*, limit: int, api: Api, as_json: bool) -> None:
    """List the oldest dead letters."""
    page = asyncio.run(_page(api, limit))
    letters: list[Letter] = page["dead_letters"]
    if as_json:
        print(json.dumps(letters))
        return
    if not letters:
        print("no dead letters")
        return
    table = aligned("ID", "AGE", "BYTES", "REASON", numbers=("BYTES",), wrapped=("REASON",))
    for each in letters:
        cells = (each["id"], age(each["set_aside_at"], time.time()), each["bytes"], each["reason"])
        table.add_row(*map(cell, cells))
    stdout().print(table)
    if page["next"]:
        stderr().print(f"these are the oldest {limit}; there are more (--limit)")


@dlq.command()
@click.argument("letter_id", metavar="ID")
@api_options
@json_option
def show(*, letter_id: str, api: Api, as_json: bool) -> None:
    """Show one dead letter: why, from where, and its original bytes.

    What is not printable is written as an escape; --json has the bytes themselves.
    """
    letter = asyncio.run(_letter(api, letter_id))
    if as_json:
        print(json.dumps(letter))
        return
    for name in ("id", "set_aside_at", "reason", "bytes"):
        print(f"{name.replace('_', ' '):<13}{printable(str(letter[name]))}")
    for name, value in letter["headers"]:
        print(f"{'header':<13}{printable(f'{name}: {value}')}")
    print()
    print(readable(letter))


def changing(command: Command) -> Command:
    """The options of the commands that change dead letters."""
    for option in (
        click.argument("letter_ids", metavar="[ID]...", nargs=-1),
        click.option("--all", "every", is_flag=True, help="All that lie there now."),
        click.option("--yes", is_flag=True, help="Do not ask whether --all is meant."),
        api_options,
        json_option,
    ):
        command = option(command)
    return command


@dlq.command()
@changing
def retry(*, letter_ids: tuple[str, ...], every: bool, yes: bool, api: Api, as_json: bool) -> None:
    """Send dead letters once more, as after a mend; what fails again comes back.

    A record that is stored already is not stored twice.
    """
    done = asyncio.run(_change(api, _meant(api, letter_ids, every, yes, "retry"), "POST", "/retry"))
    _tell(done, "sent again", as_json)


@dlq.command()
@changing
def drop(*, letter_ids: tuple[str, ...], every: bool, yes: bool, api: Api, as_json: bool) -> None:
    """Remove dead letters for good. A numbered event that was among them stays missing."""
    done = asyncio.run(_change(api, _meant(api, letter_ids, every, yes, "drop"), "DELETE", ""))
    _tell(done, "dropped", as_json)


def _meant(api: Api, letter_ids: Sequence[str], every: bool, yes: bool, what: str) -> Sequence[str]:
    """The letters that a command is about.

    What is sent again may come back, so those that lie there are listed before the first.
    """
    if every == bool(letter_ids):
        raise click.UsageError("name dead letters, or all of them with --all")
    if not every:
        return letter_ids
    found = asyncio.run(_all_ids(api))
    if found and not yes:
        click.confirm(f"{what} {len(found)} dead letters?", abort=True, err=True)
    return found


async def _all_ids(api: Api) -> list[str]:
    found = [letter["id"] async for letter in _all(api)]
    return list(dict.fromkeys(found))  # a page begins anew where the last one's end is gone


async def _all(api: Api) -> AsyncIterator[Letter]:
    after = ""
    while True:
        page = await _page(api, PAGE, after)
        for letter in page["dead_letters"]:
            yield letter
        if not (after := page["next"]):
            return


async def _page(api: Api, limit: int, after: str = "") -> dict[str, Any]:
    query = urlencode({"limit": limit} | ({"after": after} if after else {}))
    async with aiohttp.ClientSession() as session:
        page: dict[str, Any] = await _ask(session, api, f"?{query}")
    return page


async def _letter(api: Api, letter_id: str) -> Letter:
    async with aiohttp.ClientSession() as session:
        answer = await _ask(session, api, f"/{letter_id}")
    letter: Letter = answer["dead_letter"]
    return letter


async def _change(api: Api, letter_ids: Sequence[str], method: str, action: str) -> list[str]:
    """Change each; those that somebody else has removed meanwhile are told and passed over."""
    done: list[str] = []
    async with aiohttp.ClientSession() as session:
        for letter_id in letter_ids:
            try:
                await _ask(session, api, f"/{letter_id}{action}", method)
            except Missing as error:
                if len(letter_ids) == 1:
                    raise
                stderr().print(printable(error.message), markup=False, soft_wrap=True)
            except Failure as error:
                told = f"{error.message} ({len(done)} of {len(letter_ids)} done)"
                raise Failure(told) from error
            else:
                done.append(letter_id)
    return done


async def _ask(session: aiohttp.ClientSession, api: Api, path: str, method: str = "GET") -> Any:
    url = api.at(f"/api/dlq{path}")
    return await get_json(session, url, api.key, method=method, answer_seconds=ANSWER_SECONDS)


def _tell(done: Sequence[str], what: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"done": list(done)}))
        return
    for letter_id in done:
        print(f"{what}: {letter_id}")
    if not done:
        print("no dead letters")


def readable(letter: Letter) -> str:
    """The original bytes for a terminal; line ends stay, what else cannot be printed does not."""
    if "value" in letter:
        text = str(letter["value"])
    else:
        text = base64.b64decode(letter["value_base64"]).decode(errors="backslashreplace")
    return "\n".join(printable(line) for line in text.split("\n"))


def age(instant: str, now: float) -> str:
    """How long ago, in one unit."""
    seconds = max(0, int(now - parse_instant(instant, "set_aside_at")))
    unit = next(((size, name) for size, name in _AGES if seconds >= size), (1, "s"))
    return f"{seconds // unit[0]}{unit[1]}"

"""`sentinel events`: what is fetched, and how it looks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from rich.console import Console

from backend.cli import events
from backend.cli.console import Failure
from backend.cli.events import Trail, table
from backend.cli.running import Api
from tests.tools.waiting import soon


def event(number: int, **payload: object) -> dict[str, Any]:
    return {
        "event_id": f"id-{number}",
        "timestamp": f"2026-01-01T00:00:{number:02}.000Z",
        "event_type": "mcp.request",
        "payload": {"decision": "deny", "reason": "tool_denied", "tool_name": "wipe", **payload},
    }


@asynccontextmanager
async def api(stored: list[dict[str, Any]], port: int = 0) -> AsyncIterator[str]:
    """An api that gives the newest first, as the real one does, to who has the key."""

    async def recent(request: web.Request) -> web.Response:
        if request.headers.get("x-api-key") != "key":
            return web.json_response({"error": "unauthorized"}, status=401)
        limit, begin = int(request.query["limit"]), int(request.query.get("cursor", 0))
        meta = {"next_cursor": str(begin + limit)} if len(stored) > begin + limit else {}
        page = stored[::-1][begin : begin + limit]
        return web.json_response({"events": page, "meta": meta})

    app = web.Application()
    app.router.add_get("/api/events", recent)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_the_newest_come_oldest_first() -> None:
    """As one reads a log."""
    stored = [event(number) for number in range(5)]
    async with api(stored) as url, aiohttp.ClientSession() as session:
        found = [
            batch async for batch in Trail(Api(url, "key"), {}).batches(session, 3, follow=False)
        ]
    assert [each["event_id"] for each in found[0]] == ["id-2", "id-3", "id-4"]
    assert len(found) == 1


async def test_following_tells_each_event_once() -> None:
    """Older ones than asked for stay unprinted; new ones come as they arrive."""
    stored = [event(number) for number in range(5)]
    async with api(stored) as url, aiohttp.ClientSession() as session:
        following = Trail(Api(url, "key"), {}).batches(session, 2, follow=True)
        first = await anext(following)
        stored.append(event(5))
        second = await anext(following)
        await following.aclose()
    assert [each["event_id"] for each in first] == ["id-3", "id-4"]
    assert [each["event_id"] for each in second] == ["id-5"]


async def test_following_looks_behind_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came at once and fills more than one page is shown whole, in order."""
    monkeypatch.setattr(events, "MOST", 4)
    stored = [event(number) for number in range(3)]
    async with api(stored) as url, aiohttp.ClientSession() as session:
        following = Trail(Api(url, "key"), {}).batches(session, 2, follow=True)
        await anext(following)
        stored += [event(number) for number in range(3, 14)]
        second = await anext(following)
        await following.aclose()
    assert [each["event_id"] for each in second] == [f"id-{number}" for number in range(3, 14)]


async def test_following_from_nothing_shows_all_that_comes() -> None:
    """Where nothing was there at first, the limit holds back nothing of what is new."""
    stored: list[dict[str, Any]] = []
    async with api(stored) as url, aiohttp.ClientSession() as session:
        following = Trail(Api(url, "key"), {}).batches(session, 2, follow=True)
        assert await anext(following) == []
        stored += [event(number) for number in range(5)]
        assert len(await anext(following)) == 5
        await following.aclose()


async def test_following_outlives_a_restart(capsys: pytest.CaptureFixture[str]) -> None:
    """While the api is away it is told once; what came meanwhile is shown once it is back."""
    stored = [event(1)]
    async with aiohttp.ClientSession() as session:
        async with api(stored) as url:
            following = Trail(Api(url, "key"), {}).batches(session, 2, follow=True)
            await anext(following)
        waiting = asyncio.ensure_future(anext(following))
        told = await soon(lambda: capsys.readouterr().err, "the outage is told")
        stored.append(event(2))
        async with api(stored, int(url.rpartition(":")[2])):
            assert [each["event_id"] for each in await waiting] == ["id-2"]
        await following.aclose()
    assert "is it running?" in told
    assert "trying again" in told
    assert capsys.readouterr().err == "the api answers again\n"


async def test_a_wrong_key_is_told_with_the_mend() -> None:
    """The api's refusal is one line."""
    async with api([]) as url, aiohttp.ClientSession() as session:
        with pytest.raises(Failure, match="does not know this key; name another with --key-file"):
            await anext(Trail(Api(url, "wrong"), {}).batches(session, 2, follow=False))


def render(width: int, *shown: dict[str, Any], heading: bool = True) -> list[str]:
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(table(list(shown), heading=heading, console=console))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_callers_strings_are_shown_literally() -> None:
    """Neither escapes nor markup of a caller reach the terminal."""
    (line,) = render(200, event(1, agent_id="\x1b[2J[red]x", human_id="eve"), heading=False)
    assert "\x1b" not in line
    assert "\\x1b[2J[red]x for eve" in line


def test_lines_of_later_batches_are_aligned() -> None:
    """Widths come from the terminal, not from the contents."""
    first = render(160, event(1, tool_name="a-very-long-tool-name-that-is-cut"))
    second = render(160, event(2, tool_name="b"), heading=False)
    assert first[0].index("REASON") == first[1].index("tool_denied")
    assert second[0].index("tool_denied") == first[1].index("tool_denied")


@pytest.mark.parametrize(
    ("width", "time"),
    [(160, "2026-01-01T00:00:01.000Z"), (80, "00:00:01.000Z"), (60, "00:00:01")],
)
def test_times_are_shown_whole(width: int, time: str) -> None:
    """To the second where there is little room, with the date where there is much."""
    heading, line = render(width, event(1))
    assert line.split()[:2] == [time, "deny"]
    assert heading.split()[:3] == ["TIME", "DECISION", "REASON"]


def test_a_narrow_terminal_keeps_what_matters() -> None:
    """Decision, reason, tool and caller fit 80 columns; a foreign event fits too."""
    foreign = {"timestamp": "", "event_type": "other", "payload": "text"}
    lines = render(80, event(1, agent_id="bot", session_id="s-1"), foreign)
    assert all(len(line) <= 80 for line in lines)
    assert "tool_denied" in lines[1]
    assert "bot" in lines[1]
    assert "s-1" not in lines[1]
    assert "other" in lines[2]


def test_the_two_teams_have_names_of_their_own() -> None:
    """`--team` is the caller's everywhere; events are chosen by the owner's, `--owner-team`."""
    offered = {option for option, _, _ in events.FILTERS}
    assert "--team" not in offered
    assert ("--owner-team", "team_id") in {each[:2] for each in events.FILTERS}

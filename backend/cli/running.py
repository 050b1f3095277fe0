"""Finds the `sentinel up` that another command is about, and asks it over HTTP."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import click

from backend.cli.console import NOT_RUNNING, Failure
from backend.cli.state import DEFAULT_STATE, Running, StateFolder, read_running

Command = TypeVar("Command", bound=Callable[..., Any])
ANSWER_SECONDS = 10.0


def state_option(command: Command) -> Command:
    """The `--state` option."""
    return click.option(
        "--state",
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_STATE,
        show_default=True,
        help="State folder of `sentinel up`.",
    )(command)


def the_running(state: Path) -> Running:
    """The run on this state folder.

    Raises:
        Failure: none runs (exit code 3).
    """
    running = read_running(StateFolder(state.resolve()))
    if running is None:
        raise Failure(
            f"no `sentinel up` runs on `{state}`; start one, or name its folder with --state",
            NOT_RUNNING,
        )
    return running


async def get_json(session: aiohttp.ClientSession, url: str, key: str = "") -> Any:
    """GET a JSON document.

    Args:
        session: an open session.
        url: absolute.
        key: API key; empty to send none.

    Raises:
        Failure: no answer, a refusal, or an answer that is no JSON.
    """
    headers = {"x-api-key": key} if key else {}
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    try:
        async with session.get(url, headers=headers, timeout=timeout) as response:
            if response.status == 401:
                raise Failure(f"{url} does not know this key; name another with --key-file")
            if response.status >= 400:
                raise Failure(f"{url} answered {response.status}: {await _message(response)}")
            return await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        why = str(error) or type(error).__name__
        raise Failure(f"{url} cannot be read ({why}); is it running?") from error


async def _message(response: aiohttp.ClientResponse) -> str:
    try:
        problem = await response.json(content_type=None)
    except (aiohttp.ClientError, ValueError):
        return response.reason or ""
    if not isinstance(problem, dict):
        return response.reason or ""
    return str(problem.get("message") or problem.get("error") or response.reason)

"""Finds the `sentinel up` that another command is about, and asks it over HTTP."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
import click
from click.core import ParameterSource

from backend.cli.console import NOT_RUNNING, Failure
from backend.cli.state import DEFAULT_STATE, Running, StateFolder, read_running

Command = TypeVar("Command", bound=Callable[..., Any])
ANSWER_SECONDS = 10.0
# The first that is set counts; the second of each is what mcp-runtime's own commands read.
API_VARIABLES: Final = ("SENTINEL_API_URL", "MCP_PLATFORM_API_URL")
KEY_VARIABLES: Final = ("SENTINEL_API_KEY", "MCP_PLATFORM_API_TOKEN")


class Unreachable(Failure):
    """It may answer later: nothing listens there, or it is not ready."""


class Missing(Failure):
    """The thing asked for is not there."""


@dataclass(frozen=True, slots=True)
class Api:
    """Where an api answers, and with which key it is asked; an empty one is not sent."""

    url: str
    key: str

    def at(self, path: str) -> str:
        return f"{self.url.rstrip('/')}{path}"


def state_option(command: Command) -> Command:
    """The `--state` option."""
    return click.option(
        "--state",
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_STATE,
        show_default=True,
        help="State folder of `sentinel up`.",
    )(command)


def api_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options `--api`, `--key-file` and `--state`; the command gets `api`, an Api."""

    @functools.wraps(command)
    def found(*, api_url: str, key_file: Path | None, state: Path, **others: Any) -> Any:
        return command(api=the_api(api_url, key_file, state), **others)

    return address_options(found)


def address_options(command: Command) -> Command:
    """The same options; the command gets what they hold, for `the_api`."""
    address = click.option(
        "--api",
        "api_url",
        default="",
        envvar=API_VARIABLES,
        metavar="URL",
        help=f"Address of an api; default: {' or '.join(API_VARIABLES)}, else the running one.",
    )
    key = click.option(
        "--key-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"File with the API key for it; default: {' or '.join(KEY_VARIABLES)}.",
    )
    return address(key(state_option(command)))


def the_api(url: str, key_file: Path | None, state: Path) -> Api:
    """The api that the options of `address_options`, or their variables, mean.

    Raises:
        Failure: they mean a `sentinel up`, and none runs; the key cannot be read.
    """
    if url and not (is_said("state") and not is_said("api_url")):
        known = next(filter(None, map(os.environ.get, KEY_VARIABLES)), "")
        return Api(url, read_key(key_file) if key_file else known)
    running = the_running(state)
    return Api(running.endpoints.api, read_key(key_file or Path(running.admin_key_file)))


def is_said(parameter: str) -> bool:
    """Whether the command line itself gives it; what does comes before any variable."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is ParameterSource.COMMANDLINE


def read_key(path: Path) -> str:
    """The API key in a file. Raises: Failure."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"`{path}` cannot be read ({error}); name another with --key-file") from error


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


async def get_json(
    session: aiohttp.ClientSession,
    url: str,
    key: str = "",
    *,
    method: str = "GET",
    body: Any = None,
    answer_seconds: float = ANSWER_SECONDS,
) -> Any:
    """Ask for a JSON document.

    Args:
        session: an open session.
        url: absolute.
        key: API key; empty to send none.
        body: sent as JSON; None to send none.

    Raises:
        Failure: no answer (Unreachable), a refusal (of what is not there: Missing), or an
            answer that is no JSON.
    """
    headers = {"x-api-key": key} if key else {}
    timeout = aiohttp.ClientTimeout(total=answer_seconds)
    try:
        async with session.request(
            method, url, headers=headers, json=body, timeout=timeout
        ) as response:
            if response.status == 401:
                raise Failure(f"{url} does not know this key; name another with --key-file")
            if response.status >= 400:
                kind = Unreachable if response.status >= 500 else Failure
                kind = Missing if response.status == 404 else kind
                raise kind(f"{url} answered {response.status}: {await _message(response)}")
            return await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError) as error:
        why = str(error) or type(error).__name__
        raise Unreachable(f"{url} cannot be read ({why}); is it running?") from error
    except ValueError as error:
        raise Failure(f"{url} answered no JSON ({error}); is it a Sentinel?") from error


async def _message(response: aiohttp.ClientResponse) -> str:
    try:
        problem = await response.json(content_type=None)
    except (aiohttp.ClientError, ValueError):
        return response.reason or ""
    if not isinstance(problem, dict):
        return response.reason or ""
    return str(problem.get("message") or problem.get("error") or response.reason)

"""Where grants and sessions are kept, as options, variables and the running `sentinel up` say."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from backend.cli.console import NOT_RUNNING, Failure
from backend.cli.objects import Objects
from backend.cli.objects_api import ApiObjects
from backend.cli.objects_directory import DirectoryObjects
from backend.cli.running import address_options, is_said, the_api

ACCESS_VARIABLE: Final = "SENTINEL_ACCESS"


def objects_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--access` and the options of `address_options`; the command gets `objects`, Objects."""

    @functools.wraps(command)
    def found(
        *, api_url: str, key_file: Path | None, state: Path, folder: Path | None, **others: Any
    ) -> Any:
        return command(objects=_the_objects(api_url, key_file, state, folder), **others)

    access = click.option(
        "--access",
        "folder",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        envvar=ACCESS_VARIABLE,
        help=f"Access directory to use instead of an api; default: {ACCESS_VARIABLE}.",
    )
    return access(address_options(found))


def _the_objects(url: str, key_file: Path | None, state: Path, folder: Path | None) -> Objects:
    if folder is not None and not _means_api(url):
        return DirectoryObjects(folder)
    try:
        return ApiObjects(the_api(url, key_file, state))
    except Failure as error:
        if error.exit_code != NOT_RUNNING:
            raise
        others = "an api with --api, or an access directory with --access"
        raise Failure(f"{error.message}, {others}", NOT_RUNNING) from error


def _means_api(url: str) -> bool:
    """Where both are named: what stands on the command line counts, and only one may."""
    named = [name for name in ("folder", "api_url", "key_file", "state") if is_said(name)]
    if "folder" in named and len(named) > 1:
        raise click.UsageError("--access goes without --api, --key-file and --state; give one")
    if not named and url:
        problem = f"both {ACCESS_VARIABLE} and the address of an api are set"
        raise click.UsageError(f"{problem}; unset one, or give --access or --api")
    return bool(named) and "folder" not in named

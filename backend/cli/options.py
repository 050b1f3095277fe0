"""Options that several commands have: how to print an answer, and times."""

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import click
import yaml

from backend.cli.console import Command, printable
from extauthz.core.errors import Invalid
from extauthz.core.times import parse_moment

FORMS = ("table", "json", "yaml", "name")


def output_option(named: str) -> Callable[[Command], Command]:
    """`-o table|json|yaml|name`, and `--json`; the command gets `output`.

    Args:
        named: what `name` prints.
    """

    def added(command: Command) -> Command:
        form = click.option(
            "-o",
            "--output",
            type=click.Choice(FORMS),
            default=FORMS[0],
            show_default=True,
            help=f"How to print the answer; `name`: {named}.",
        )
        # Like every command: the one word for scripts.
        as_json = click.option("--json", "output", flag_value="json", help="The same as `-o json`.")
        return as_json(form(command))

    return added


def print_told(output: str, told: Any, names: Iterable[object]) -> bool:
    """Print an answer for programs; False where a table is asked for.

    Args:
        told: of JSON's types.
        names: a line each; strings of callers among them are shown literally.
    """
    if output == "json":
        print(json.dumps(told), flush=True)
    elif output == "yaml":
        print(yaml.safe_dump(told, sort_keys=False, allow_unicode=True), end="", flush=True)
    elif output == "name":
        for name in names:
            print(printable(str(name)), flush=True)
    return output != "table"


def moment(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Checked here, so that a mistake costs no request; read by the api, whose clock counts."""
    try:
        if value:
            parse_moment(value, "", time.time())
    except Invalid as error:
        raise click.BadParameter(str(error), ctx, param) from error
    return value

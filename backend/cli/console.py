"""What the command line prints, and how it fails."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from extauthz.core.errors import SentinelError

# Exit codes; 0 is success, 2 click's own for a wrong option or argument.
FAILED = 1  # it failed, found errors, or runs degraded
NOT_RUNNING = 3  # no `sentinel up` runs on this state folder
DENIED = 4  # the governed server's policy denied the call

EXIT_CODES = """\b
Exit codes:
  0  done; all healthy
  1  failed; errors found; degraded
  2  a wrong option or argument
  3  no `sentinel up` runs on this state folder
  4  the call was denied"""

# Wide enough for every column: who pipes a table wants all of it.
PIPED_WIDTH = 240

UNFOLDED_WIDTH = 4000

Command = TypeVar("Command", bound=Callable[..., Any])


class Failure(click.ClickException):
    """The command ends here: one line on stderr, the mend last.

    Args:
        message: lower case, offending input in backticks, the mend at the end.
        exit_code: one of this module's codes.
    """

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = exit_code  # click declares it on the class

    def show(self, file: Any = None) -> None:
        stream = file or sys.stderr
        print(f"error: {printable(self.message)}", file=stream)


class Group(click.Group):
    """A click group that turns the project's own errors into one-line failures."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SentinelError as error:
            raise Failure(str(error)) from error


class LazyGroup(Group):
    """A group whose commands are imported when asked for."""

    def __init__(self, *args: Any, commands_at: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self.commands_at]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands_at:
            return super().get_command(ctx, cmd_name)
        module, _, name = self.commands_at[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


def printable(text: str) -> str:
    """Write control characters, direction marks and the like as escapes.

    Strings of callers and of log files reach a terminal only through here.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def cell(value: object, style: str = "") -> Text:
    """A table cell that holds `value` literally: neither markup nor control characters work."""
    return Text(printable("" if value is None else str(value)), style=style)


def stdout() -> Console:
    """The console for results."""
    return _console(stderr=False)


def stderr() -> Console:
    """The console for progress and warnings."""
    return _console(stderr=True)


def warn(line: str) -> None:
    """A line of its own on standard error."""
    stderr().print(printable(line), markup=False, soft_wrap=True)


def print_unfolded(table: Table) -> None:
    """Print a table whose long cells the terminal itself wraps, so that they copy as one line."""
    console = stdout()
    with console.capture() as capture:
        console.print(table, width=UNFOLDED_WIDTH, crop=False)
    for line in capture.get().splitlines():
        print(line.rstrip(), flush=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPED_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def json_option(command: Command) -> Command:
    """The `--json` option that every command has."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)

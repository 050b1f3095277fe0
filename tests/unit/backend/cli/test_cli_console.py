"""Strings of callers reach the terminal as text, and failures are one line."""

import pytest
from click.testing import CliRunner

from backend.cli.console import Failure, Group, cell, printable
from extauthz.core.errors import Invalid


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ünïcode 漢字", "plain text, ünïcode 漢字"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("right\u202eleft", "right\\u202eleft"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\x9b0m", "\\x9b0m"),
        ("\ud800", "\\ud800"),
    ],
)
def test_control_characters_show_as_escapes(text: str, shown: str) -> None:
    """Nothing that a terminal obeys gets through."""
    assert printable(text) == shown


def test_a_cell_holds_markup_literally() -> None:
    """`[red]` of a caller is five characters."""
    assert cell("[red]x[/red]").plain == "[red]x[/red]"


def test_a_failure_is_one_line_on_stderr() -> None:
    """An error of the project ends a command with its sentence and no traceback."""
    group = Group("tool")

    @group.command()
    def broken() -> None:
        raise Invalid("--upstream", "`x\x1b` is no URL", "write one")

    result = CliRunner().invoke(group, ["broken"])
    assert result.exit_code == 1
    assert result.stderr == "error: --upstream: `x\\x1b` is no URL; write one\n"


def test_a_failure_has_its_own_exit_code() -> None:
    """Scripts tell failures apart."""
    assert Failure("gone", 3).exit_code == 3
    assert Failure("gone").exit_code == 1

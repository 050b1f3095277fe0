"""`sentinel call`: what cannot be sent is refused before anything is."""

import pytest
from click.testing import CliRunner

from backend.cli.main import sentinel


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--agent", "a\nb"], "Invalid value for --agent: `a\\nb` cannot stand in a header"),
        (["--human", " a"], "Invalid value for --human: ` a` cannot stand in a header"),
        (["--header", "X Y=1"], "Invalid value for --header: `X Y=1` is not NAME=VALUE"),
        (["--header", "X=\r1"], "Invalid value for --header: `\\r1` cannot stand in a header"),
        (["--arguments", "[1]"], "`[1]` is not a JSON object; write one like"),
    ],
)
def test_what_cannot_be_sent_is_told(words: list[str], said: str) -> None:
    """The option, the value without control characters, and what to do."""
    result = CliRunner().invoke(sentinel, ["call", "echo", "--url", "http://127.0.0.1:9", *words])
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())

"""What the two commands offer."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from backend.cli.main import COMMANDS, mcp_runtime, sentinel

GROUPS = {"policy", "access", "audit", "dlq", "keys"}


def test_help_lists_every_command_and_the_exit_codes() -> None:
    """A newcomer finds all from here."""
    text = CliRunner().invoke(sentinel, ["--help"]).stdout
    for name in (*COMMANDS, "Exit codes:", "the call was denied"):
        assert name in text


@pytest.mark.parametrize(
    "name",
    [
        *sorted(COMMANDS.keys() - GROUPS),
        *("policy check", "policy render", "access grant list", "access session get"),
        *("audit completeness", "dlq list", "dlq show", "dlq retry", "dlq drop", "keys new"),
    ],
)
def test_every_command_has_json(name: str) -> None:
    """Programs read all of them."""
    text = CliRunner().invoke(sentinel, [*name.split(), "--help"]).stdout
    assert "--json" in text


def test_mcp_runtime_has_what_exists() -> None:
    """The name that existing scripts use leads to the same command."""
    text = CliRunner().invoke(mcp_runtime, ["sentinel", "--help"]).stdout
    for name in ("status", "events", "logs", "port-forward", "restart", "Exit codes:"):
        assert name in text


@pytest.mark.parametrize(
    "words",
    [["status"], ["events"], ["call", "echo"], ["audit", "completeness"], ["dlq", "drop", "x"]],
)
def test_without_a_run_commands_say_so(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3, one line, the mend."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # without a kubeconfig
    monkeypatch.delenv("KUBECONFIG", raising=False)
    result = CliRunner().invoke(sentinel, words)
    assert result.exit_code == 3
    assert result.stderr == (
        "error: no `sentinel up` runs on `.sentinel`; start one, or name its folder with --state\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--upstream", "127.0.0.1:3000"], "is not an http or https URL; write it like"),
        (["--upstream", "http://u:secret@h/mcp"], "carries credentials"),
        (["--state", "a#b"], "choose a folder without them"),
    ],
)
def test_up_refuses_what_cannot_work(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is made or started."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(sentinel, ["up", *words])
    assert result.exit_code == 1
    assert said in result.stderr
    assert "secret" not in result.stderr
    assert not list(tmp_path.iterdir())

"""`python -m backend`: its errors are one line each, with the mend."""

from click.testing import CliRunner

from backend.__main__ import main

ENVIRON = {"API_KEYS": "hunter2", "STORE_URL": "chdb:///s", "HOST": "127.0.0.1"}


def test_print_config() -> None:
    """What differs from the defaults, without secrets; nothing is started."""
    result = CliRunner().invoke(main, ["--target", "all", "--print-config"], env=ENVIRON)
    assert result.exit_code == 0
    assert "API_KEYS=" in result.output
    assert "hunter2" not in result.output


def test_a_wrong_setting() -> None:
    """Exit code 2 and one line."""
    result = CliRunner().invoke(main, ["--target", "all"], env={"BATCH_SIZE": "many"})
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: BATCH_SIZE: `many` is not a whole number")


def test_an_unknown_target() -> None:
    """The choices are shown."""
    result = CliRunner().invoke(main, ["--target", "everything"])
    assert result.exit_code == 2
    assert "processor" in result.stderr

"""`sentinel migrate`: what it prints, and what it leaves alone."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.cli.main import sentinel


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"chdb://{tmp_path / 'store'}"


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(sentinel, ["migrate", *arguments], env=environ)


def test_a_dry_run_prints_the_sql(url: str) -> None:
    """Each change with its name and statements; nothing is altered, however often."""
    first, second = run("--dry-run", STORE_URL=url), run("--dry-run", STORE_URL=url)
    assert first.exit_code == 0
    assert first.output.startswith("-- 0001_events.sql\n")
    assert "CREATE TABLE IF NOT EXISTS events\n" in first.output
    assert second.output == first.output


def test_it_applies_what_is_pending(url: str) -> None:
    """Once; then the schema is up to date, until a setting asks for more."""
    assert run("--store", url).output == "applied 0001_events.sql\napplied 0002_parts.sql\n"
    assert run("--store", url).output == "the schema is up to date\n"
    (change,) = json.loads(run("--store", url, "--json", EVENT_RETENTION_DAYS="7").output)
    assert change["name"] == "EVENT_RETENTION_DAYS"
    assert "INTERVAL 7 DAY" in change["statements"][0]
    assert run("--store", url, "--json", EVENT_RETENTION_DAYS="7").output == "[]\n"


def test_a_running_backend_owns_its_store(url: str) -> None:
    """Then the command says so, with the mend."""
    import subprocess
    import sys

    store = ClickHouseStore(url)
    code = "from backend.cli.main import sentinel; sentinel()"
    ended = subprocess.run(
        [sys.executable, "-c", code, "migrate", "--store", url],
        capture_output=True,
        text=True,
        check=False,
    )
    store.close()
    assert ended.returncode == 1
    assert "another process has it open" in ended.stderr
    assert ended.stderr.endswith("is brought up to date whenever that starts\n")


def test_a_store_must_be_named() -> None:
    """Neither option nor setting: the error names the setting."""
    ended = run(STORE_URL="")
    assert ended.exit_code == 1
    assert "STORE_URL" in ended.output

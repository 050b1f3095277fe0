"""README's first command, on a clean clone in a fresh virtual environment.

The other command, `make test`, is what CI runs on a clean clone: it runs this file.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from backend.cli.console import DENIED
from backend.cli.guard import RUN_VARIABLE, members
from backend.cli.ports import DEFAULT_BASE, Ports
from tests.tools.sentinel_up import free_base
from tests.tools.waiting import SECONDS, eventually

ROOT = Path(__file__).parents[2]
INSTALL_SECONDS = 1200  # everything is downloaded where pip's cache is empty
# What this very run sets, and a newcomer's shell does not.
OURS = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "VIRTUAL_ENV", "PYTHONPATH", "UP_ARGS"}


@pytest.mark.timeout(2 * INSTALL_SECONDS)
def test_a_newcomer_gets_what_readme_says() -> None:
    """In a clone of HEAD `make up` prints what README shows, and all it tells to try is true.

    Installs everything anew, which takes about a minute with what pip has in its cache.
    """
    base = free_base()
    with _clone() as clone, _make_up(clone, base) as (make, log):
        printed = _rows(_table(make, log))
        link = printed["dashboard"]
        printed["dashboard"] = re.sub("token=.*", "token=ONCE", link)
        assert printed == _rows(_as_if_on(base, (clone / "README.md").read_text()))
        with urllib.request.urlopen(link, timeout=SECONDS) as page:
            assert "You are signed in" in page.read().decode()

        allowed = _run(printed["an allowed call"], clone)
        assert (allowed.returncode, "INV-1001" in allowed.stdout) == (0, True), allowed.stderr
        denied = _run(printed["a denied call"], clone)
        assert (denied.returncode, denied.stdout) == (DENIED, "")
        assert "tool_not_granted" in denied.stderr

        def both() -> bool:
            lines = _run(printed["what was decided"], clone).stdout.splitlines()
            seen = {tuple(line.split()[1:4]) for line in lines}
            return {
                ("allow", "allowed", "list_invoices"),
                ("deny", "tool_not_granted", "refund_invoice"),
            } <= seen

        eventually(both, "both calls in `sentinel events`")
        _edit_as_told(clone)
        _grant_as_told(clone, base)
        told = json.loads((clone / ".sentinel/state.json").read_text())
        token = psutil.Process(told["components"][0]["pid"]).environ()[RUN_VARIABLE]
        os.killpg(make.pid, signal.SIGINT)  # Ctrl-C reaches make and all it runs
        assert make.wait(SECONDS) == -signal.SIGINT  # how make ends when interrupted
        endings = re.findall(r"^(\S+): (stopped|killed)", log.read_text(), re.MULTILINE)
        assert endings == [
            (name, "stopped") for name in ("ui", "envoy", "decision-point", "backend", "upstream")
        ]
        assert not list(members(token))
        assert not _git(clone, "status", "--porcelain"), "a run leaves the checkout clean"


def _edit_as_told(clone: Path) -> None:
    """README's edit counts for the next call; a broken file changes nothing and is told."""
    grants = clone / ".sentinel/access/grants.yaml"
    text, readme = grants.read_text(), (clone / "README.md").read_text()
    for told, where, more in (
        ("maxTrust: high", r"maxTrust: medium", ""),
        ("allowedSideEffects: [read, destructive]", r"allowedSideEffects: \[read\]", ""),
        ("{name: refund_invoice, decision: allow}", r"(?=\{name: list_invoices)", "\n    - "),
    ):
        assert f"`{told}`" in readme
        text = re.sub(where, told + more, text, count=1)
    grants.write_text(text)
    (command,) = re.findall(r"^    (\S+ call refund_invoice .*)$", readme, re.MULTILINE)
    eventually(lambda: _run(command, clone).returncode == 0, "the edit counts")

    grants.write_text(f"{text}  broken: [\n")
    status = eventually(lambda: _faulty(clone), "the fault in `sentinel status`")
    assert re.search(r"grants\.yaml:\d+: .*mend", status), status
    assert "The last good policy stays" in status
    assert _run(command, clone).returncode != DENIED


def _grant_as_told(clone: Path, base: int) -> None:
    """README's grant over HTTP allows the next call; taken back, it denies the one behind."""
    readme = _as_if_on(base, (clone / "README.md").read_text())
    (block,) = re.findall(r"^    KEY=.*\n(?:    .*\n)+", readme, re.MULTILINE)
    names, make, call, take_back, again = block.splitlines()
    assert call == again
    made = _run(f"{names}\n{make}", clone)
    assert (made.returncode, '"grant"' in made.stdout) == (0, True), made.stderr
    eventually(lambda: _run(call, clone).returncode == 0, "the grant counts")
    taken = _run(f"{names}\n{take_back}", clone)
    assert (taken.returncode, '"disabled":true' in taken.stdout) == (0, True), taken.stderr
    denied = eventually(lambda: _denied(call, clone), "it is taken back")
    assert "grant_disabled" in denied


def _denied(command: str, folder: Path) -> str:
    """What a denied call says; empty where it was allowed."""
    done = _run(command, folder)
    return done.stderr if done.returncode == DENIED else ""


def _faulty(clone: Path) -> str:
    status = _run(".venv/bin/sentinel status", clone)
    return status.stdout if status.returncode == 1 else ""


@contextmanager
def _clone() -> Iterator[Path]:
    # Not pytest's folder, which is kept: the environment takes 1.5 GB.
    with tempfile.TemporaryDirectory(prefix="newcomer-") as folder:
        clone = Path(folder) / "sentinel"
        _git(ROOT, "clone", "--quiet", str(ROOT), str(clone))
        yield clone


@contextmanager
def _make_up(clone: Path, base: int) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = clone.with_name("make.log")
    with log.open("wb") as out:
        make = subprocess.Popen(
            ["make", "up", f"UP_ARGS=--port-base {base}"],
            cwd=clone,
            env=_environ(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,  # a terminal's foreground group
        )
    try:
        yield make, log
    finally:
        if make.poll() is None:
            os.killpg(make.pid, signal.SIGINT)
            make.wait(SECONDS)


def _table(make: subprocess.Popen[bytes], log: Path) -> str:
    """What `make up` has printed, once it serves."""
    deadline = time.monotonic() + INSTALL_SECONDS
    while "Ctrl-C stops everything" not in (text := log.read_text()):
        assert make.poll() is None, text
        assert time.monotonic() < deadline, text
        time.sleep(0.2)
    return text


def _rows(text: str) -> dict[str, str]:
    """Lines of the form `name  value` with README's names."""
    names = "governed MCP|dashboard|api|access directory|admin key file"
    pattern = rf"^ *({names}|an allowed call|a denied call|what was decided)  +(\S.*)$"
    return dict(re.findall(pattern, text, re.MULTILINE))


def _as_if_on(base: int, text: str) -> str:
    """README's example with this run's ports."""
    default, ports = Ports(DEFAULT_BASE), Ports(base)
    text = text.replace(f"127.0.0.1:{default.mcp}", f"127.0.0.1:{ports.mcp}")
    text = text.replace(f"127.0.0.1:{default.ui}", f"127.0.0.1:{ports.ui}")
    return text.replace(f"127.0.0.1:{default.api}", f"127.0.0.1:{ports.api}")


def _run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a person does who copies a line into a second terminal."""
    return subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=_environ(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def _environ() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    return kept | {"PYTHON": sys.executable}  # a Python that is new enough


def _git(folder: Path, *words: str) -> str:
    git = shutil.which("git")
    assert git, "git is needed"
    done = subprocess.run([git, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout

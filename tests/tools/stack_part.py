"""One process of a stack under test, and what its ports tell."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.tools.waiting import SECONDS

ROOT: Final = Path(__file__).parents[2]


@dataclass
class Part:
    """One process; it can be started again, with the same environment.

    Args:
        argv: behind `python`.
        environ: what a manifest would set.
        ready: address that answers 200 once it serves.
        log: takes what it says, of all its starts.
    """

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str]
    ready: str
    cwd: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """URL of its port of `ready`: that of metrics, but for ingest and api."""
        return self.ready.removesuffix("/ready")

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} was not started"
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start it; return once it is ready, or at once."""
        assert not self.is_running, f"{self.name} runs already"
        path = os.pathsep.join(filter(None, [self.environ.get("PYTHONPATH", ""), str(ROOT)]))
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, *self.argv],
                cwd=self.cwd,
                env={"PATH": os.environ["PATH"], **self.environ, "PYTHONPATH": path},
                stdout=out,
                stderr=out,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + SECONDS
        while not answers(self.ready):
            assert self.is_running, f"{self.name} ended:\n{self.tail()}"
            assert time.monotonic() < deadline, f"{self.name} is not ready:\n{self.tail()}"
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """SIGTERM; it must end well."""
        if not self.is_running:
            return
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.send_signal(signal.SIGCONT)
        try:
            code = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            code = -9
        assert code == 0, f"{self.name} ended with {code}:\n{self.tail()}"

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def metric(url: str, name: str) -> float:
    """The sum of a metric's samples; -1 where nobody answers.

    Args:
        url: of the component's metrics port.
    """
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
    except (urllib.error.URLError, OSError):
        return -1.0
    found = [line for line in lines if line.partition("{")[0].partition(" ")[0] == name]
    return sum(float(line.rpartition(" ")[2]) for line in found)


def waiting(point: str) -> float:
    """How many events a decision point holds that ingest has not taken; not 0 where it is away.

    Args:
        point: URL of its metrics port.
    """
    held = ("mcp_gateway_events_spooled", "mcp_gateway_events_pending")
    return sum(abs(metric(point, name)) for name in held)

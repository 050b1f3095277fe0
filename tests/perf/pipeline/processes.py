"""The processes under measurement: started, asked for their metrics, and charged for their CPU."""

import json
import os
import socket
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.tools.ports import free_ports
from tests.tools.waiting import eventually

ROOT = Path(__file__).parents[3]
KEY = "bench-key-of-the-pipeline"
WAIT_SECONDS = 60.0
_ENVIRON = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": os.pathsep.join((str(ROOT), sysconfig.get_path("purelib"))),
}


@dataclass(frozen=True, slots=True)
class Usage:
    """What processes have used together: `cpu_seconds` since their start, `rss_mb` now."""

    cpu_seconds: float
    rss_mb: float


def usage(pids: Sequence[int]) -> Usage:
    """All threads of all of them."""
    found = [psutil.Process(pid) for pid in pids]
    times = [process.cpu_times() for process in found]
    return Usage(
        cpu_seconds=sum(each.user + each.system for each in times),
        rss_mb=sum(process.memory_info().rss for process in found) / 2**20,
    )


@dataclass(frozen=True, slots=True)
class Service:
    """A target of the backend that runs.

    Args:
        name: the target.
        port, api_port: of ingest and api, where it runs them.
    """

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    port: int
    api_port: int
    metrics_port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def events_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events"

    def metric(self, name: str, **labels: str) -> float:
        """The value of one sample; 0 where it is not there yet."""
        self._check()
        for family in text_string_to_metric_families(self._get("/metrics").decode()):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return 0.0

    def is_ready(self) -> bool:
        self._check()
        try:
            self._get("/ready")
            for port in _SERVES[self.name](self):  # the metrics answer before these do
                socket.create_connection(("127.0.0.1", port)).close()
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    def _check(self) -> None:
        if self.process.poll() is not None:
            said = self.log.read_text()[-2000:]
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {said}")

    def ask(self, path: str) -> Any:
        """What the api answers."""
        url = f"http://127.0.0.1:{self.api_port}{path}"
        request = urllib.request.Request(url, headers={"x-api-key": KEY})
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as response:
            return json.load(response)

    def _get(self, path: str) -> bytes:
        url = f"http://127.0.0.1:{self.metrics_port}{path}"
        with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as response:
            body: bytes = response.read()
        return body


_SERVES: Mapping[str, Callable[[Service], tuple[int, ...]]] = {
    "all": lambda service: (service.port, service.api_port),
    "ingest": lambda service: (service.port,),
    "processor": lambda service: (),
    "api": lambda service: (service.api_port,),
}


@contextmanager
def service(
    target: str, folder: Path, recording: Path | None = None, **environ: str
) -> Iterator[Service]:
    """`python -m backend --target …` until the end of the block, ready.

    Args:
        recording: the processor's inserts are kept there.
    """
    ingest, api, metrics = free_ports(3)
    (folder / "access").mkdir(exist_ok=True)
    everything = {
        **_ENVIRON,
        "INGEST_PORT": str(ingest),
        "API_PORT": str(api),
        "METRICS_PORT": str(metrics),
        "API_KEYS": KEY,
        "ADMIN_API_KEYS": KEY,
        "INGEST_API_KEYS": KEY,
        "ACCESS_URL": f"dir://{folder / 'access'}",
        "LOG_LEVEL": "warning",
        **environ,
    }
    words = [sys.executable, "-m", "backend", "--target", target]
    if recording:
        words = [sys.executable, "-m", f"{__package__}.record", str(recording)]
    said = folder / f"{target}.log"
    with said.open("ab") as log:
        process = subprocess.Popen(words, cwd=folder, env=everything, stdout=log, stderr=log)
    try:
        running = Service(target, process, said, ingest, api, metrics)
        eventually(running.is_ready, f"{target} is ready")
        yield running
    finally:
        end(process)


@contextmanager
def child(module: str, *words: object) -> Iterator["subprocess.Popen[str]"]:
    """Another part of this benchmark, in a process of its own; it prints JSON."""
    full = [sys.executable, "-m", f"{__package__}.{module}", *map(str, words)]
    process = subprocess.Popen(
        full,
        cwd=ROOT,
        env=_ENVIRON,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        end(process)


def run_child(module: str, *words: object) -> Any:
    """The JSON that such a part prints."""
    with child(module, *words) as process:
        printed, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{module} failed with {process.returncode}")
    return json.loads(printed)


def end(process: "subprocess.Popen[Any]") -> None:
    """SIGTERM, and SIGKILL where it does not heed it."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def per_million(cpu_seconds: float, events: float) -> float:
    """CPU-seconds per million events."""
    return cpu_seconds / events * 1e6

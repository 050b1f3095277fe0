"""The controller as a process: `python -m backend --target controller`."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.tools.kube_binaries import ROOT
from tests.tools.ports import free_ports

STOP_SECONDS = 60.0
MOST_SHOWN = 20_000  # characters of a log


class ControllerProcess:
    """Started at once.

    Args:
        settings: beside those that it needs here.

    Attributes:
        port: of its stream.
        log: the file that holds its event log.
        pid: of the process.
    """

    def __init__(
        self, kubeconfig: Path, namespace: str, name: str, folder: Path, **settings: str
    ) -> None:
        port, metrics = free_ports(2)
        host = settings.get("HOST", "127.0.0.1")
        self._metrics = f"http://{f'[{host}]' if ':' in host else host}:{metrics}"
        self.log = folder / f"{name}.db"
        environ = {
            "KUBECONFIG": str(kubeconfig),
            "ACCESS_URL": "kubernetes://",
            "EVENT_LOG_URL": f"sqlite://{self.log}",
            "CONTROLLER_NAMESPACE": namespace,
            "CONTROLLER_NAME": name,
            "CONTROLLER_DNS_NAMES": "127.0.0.1",
            "CONTROLLER_PORT": str(port),
            "CONTROLLER_LEASE_SECONDS": "5",  # a busy machine may stall a leader for two
            "METRICS_PORT": str(metrics),
            **settings,
        }
        self.port = int(environ["CONTROLLER_PORT"])
        self._said = folder / f"{name}.log"
        with self._said.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "backend", "--target", "controller"],
                env=os.environ | environ,
                cwd=ROOT,
                stdout=out,
                stderr=out,
            )
        self.pid = self._process.pid

    def said(self) -> str:
        """Its log."""
        return self._said.read_text()

    def metrics(self) -> str:
        """Empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"{self._metrics}/metrics", timeout=5) as answer:
                return str(answer.read(), "utf-8")
        except OSError:
            return ""

    def is_ready(self) -> bool:
        """Whether `/ready` says so."""
        try:
            with urllib.request.urlopen(f"{self._metrics}/ready", timeout=5):
                return True
        except (OSError, urllib.error.HTTPError):
            return False

    def leads(self) -> bool:
        return self.is_ready() and "controller_leads 1.0" in self.metrics()

    def changes(self) -> list[dict[str, Any]]:
        """The `governance.change` events that it has recorded."""
        with sqlite3.connect(self.log) as connection:
            rows = connection.execute("SELECT value FROM records ORDER BY offset").fetchall()
        return [json.loads(value)["payload"] for (value,) in rows]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def end(self) -> int:
        """Its exit code after SIGTERM; 0 where it had ended by itself."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_SECONDS)


@contextmanager
def running_controller(
    kubeconfig: Path, namespace: str, name: str, folder: Path, **settings: str
) -> Iterator[ControllerProcess]:
    """Ended with the block; where that fails, its log stands beside the error."""
    made = ControllerProcess(kubeconfig, namespace, name, folder, **settings)
    try:
        yield made
    except BaseException as error:
        error.add_note(f"controller `{name}` said:\n{made.said()[-MOST_SHOWN:]}")
        raise
    finally:
        made.kill()

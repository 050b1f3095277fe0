"""A real decision point for a test, as a process, with an ingest that keeps what it is sent."""

import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.tools.waiting import SECONDS, eventually

ROOT = Path(__file__).parents[2]


@dataclass
class RunningPoint:
    """A decision point that serves.

    Attributes:
        sent: the bodies that its ingest got.
        log: what it logs.
    """

    process: subprocess.Popen[bytes]
    log: Path
    metrics_port: int = 0
    sent: list[bytes] = field(default_factory=list)

    def calls(self) -> list[dict[str, Any]]:
        """The payloads of the calls so far."""
        events = [json.loads(line) for body in list(self.sent) for line in body.splitlines()]
        return [each["payload"] for each in events if each["event_type"] == "mcp.request"]

    def ask(self, path: str) -> tuple[int, str]:
        """Status and text of what it tells operators."""
        url = f"http://127.0.0.1:{self.metrics_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=SECONDS) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def token_keys(self) -> dict[str, Any]:
        """What /config/status says of the keys."""
        told: dict[str, Any] = json.loads(self.ask("/config/status")[1])["token_keys"]
        return told


@contextmanager
def running_point(folder: Path, access: str, **environ: str) -> Iterator[RunningPoint]:
    """Run one until the block ends.

    Args:
        folder: where Envoy runs; the socket is check.sock there.
        access: custom resources as YAML.
        environ: more settings.
    """
    (folder / "access").mkdir(exist_ok=True)
    (folder / "access/all.yaml").write_text(access)
    sent: list[bytes] = []
    ingest = ThreadingHTTPServer(("127.0.0.1", 0), _ingest(sent))
    threading.Thread(target=ingest.serve_forever, daemon=True).start()
    log = folder / "point.log"
    settings = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "ACCESS_DIR": "access",
        "CHECK_ADDRESS": "unix:check.sock",
        "SPOOL_DIR": "spool",
        "METRICS_PORT": "0",
        "MCP_SENTINEL_INGEST_URL": f"http://127.0.0.1:{ingest.server_port}/events",
        **environ,
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "extauthz"], cwd=folder, env=settings, stderr=out, stdout=out
        )
    try:
        point = RunningPoint(process, log, sent=sent)
        point.metrics_port = eventually(lambda: _metrics_port(point), "the decision point runs")
        yield point
    finally:
        process.terminate()
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        ingest.shutdown()
        ingest.server_close()


def _metrics_port(point: RunningPoint) -> int:
    assert point.process.poll() is None, point.log.read_text()
    for line in point.log.read_text().rpartition("\n")[0].splitlines():
        assert line.startswith("{"), point.log.read_text()
        said = json.loads(line)
        if said["message"] == "decision point runs":
            return int(said["metrics_port"])
    return 0


def _ingest(sent: list[bytes]) -> type[BaseHTTPRequestHandler]:
    class Ingest(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Ingest

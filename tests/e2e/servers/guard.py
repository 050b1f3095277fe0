"""A real decision point with the corpus's policy, Envoys that ask it, and what they answer."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.running import await_listening, stop

from tests.corpus.case import ACCESS, PASSES
from tests.tools.envoy_process import running_sidecar


@contextmanager
def running_decision_point() -> Iterator[str]:
    """Run it, without ingest (it spools), until the block ends: the path of its socket."""
    # A short path: that of a socket ends at 107 bytes.
    with tempfile.TemporaryDirectory(prefix="corpus-") as temporary:
        folder = Path(temporary)
        path = str(folder / "check.sock")
        settings = {
            "ACCESS_DIR": str(ACCESS),
            "CHECK_ADDRESS": f"unix:{path}",
            "MCP_SENTINEL_INGEST_URL": "http://127.0.0.1:9/events",
            "SPOOL_DIR": str(folder / "spool"),
            "METRICS_PORT": "0",
            "DRAIN_SECONDS": "1",
        }
        (folder / "spool").mkdir()
        with (folder / "log").open("wb") as log:
            words = (sys.executable, "-m", "extauthz")
            process = subprocess.Popen(words, env=os.environ | settings, stdout=log, stderr=log)
        try:
            await_listening(process, path)
            yield path
        finally:
            stop(process)


@contextmanager
def guarded(upstream: str, check_socket: str) -> Iterator[int]:
    """An Envoy before `upstream`: its port."""
    with running_sidecar(upstream, check_socket=check_socket) as envoy:
        yield envoy.port


def outcome(status: int, body: bytes) -> str:
    """As `Case.expect` writes it."""
    try:
        data = json.loads(body)["error"]["data"]
        reason = data["reason"]
    except (ValueError, KeyError, TypeError):
        return PASSES if status < 300 or body else str(status)
    return str(reason) if "decision_id" in data else f"{status} {reason}"

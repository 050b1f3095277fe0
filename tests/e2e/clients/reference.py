"""The reference MCP server as a process of its own, on a free loopback port."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.tools.ports import free_port

START_SECONDS = 30
STOP_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers at `url`."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def reference_server(options: Sequence[str] = ()) -> Iterator[Running]:
    """Run the server until the block ends."""
    port = free_port()
    command = (sys.executable, "-m", "backend.demo", "--port", str(port), *options)
    process = subprocess.Popen(command)
    try:
        _await_port(process, port)
        yield Running(f"http://127.0.0.1:{port}/mcp", process)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"the server did not listen within {START_SECONDS} s")

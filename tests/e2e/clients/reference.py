"""The reference MCP server as a process of its own, on a free loopback port."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.e2e.servers.running import await_listening, stop
from tests.tools.ports import free_port


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
        await_listening(process, ("127.0.0.1", port))
        yield Running(f"http://127.0.0.1:{port}/mcp", process)
    finally:
        stop(process)

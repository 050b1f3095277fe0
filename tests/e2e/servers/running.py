"""The corpus's servers as processes of their own, each on a free loopback port."""

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.tools.ports import free_port
from tests.tools.waiting import SECONDS, eventually

FOLDER = Path(__file__).parent
SERVERS = ("python", "typescript-v1", "typescript-v2", "lenient-go")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that keeps which tools ran.

    Args:
        name: of `SERVERS`.
        port: on 127.0.0.1.
    """

    name: str
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def executed(self) -> list[str]:
        """The tools that ran so far, in order."""
        with urllib.request.urlopen(f"{self.url}/executed", timeout=SECONDS) as response:
            tools: list[str] = json.loads(response.read())
        return tools


@contextmanager
def running(name: str, folder: Path) -> Iterator[Server]:
    """Run one server until the block ends.

    Args:
        folder: where a program may be built.
    """
    port = free_port()
    process = subprocess.Popen(_command(name, port, folder), cwd=FOLDER)
    try:
        await_listening(process, ("127.0.0.1", port))
        yield Server(name, port)
    finally:
        stop(process)


def _command(name: str, port: int, folder: Path) -> Sequence[str]:
    if name == "python":
        return (sys.executable, str(FOLDER / "python_server.py"), str(port))
    if name == "lenient-go":
        built = folder / "lenient"
        subprocess.run(("go", "build", "-o", built, "."), cwd=FOLDER / name, check=True)
        return (str(built), str(port))
    return ("node", "typescript/server.mjs", name.rpartition("-")[2], str(port))


def await_listening(process: subprocess.Popen[bytes], address: tuple[str, int] | str) -> None:
    """Wait until the process listens: (host, port), or the path of a socket file."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET

    def listens() -> bool:
        assert process.poll() is None, f"the process ended with {process.returncode}"
        with socket.socket(family) as probe:
            return probe.connect_ex(address) == 0

    eventually(listens, f"something listens on {address}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started here."""
    process.terminate()
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""How Envoy is run: its command line, and what its admin socket tells."""

import http.client
import os
import socket
from contextlib import suppress
from pathlib import Path

from envoy_bootstrap.options import SOCKET_PATH_BYTES

# A line of the undecided log is on disk within this time; Envoy's default is 10 s.
LOG_FLUSH_MILLISECONDS = 100


def command(
    binary: str | Path,
    config: str | Path,
    *,
    concurrency: int = 2,
    drain_seconds: int = 10,
    log_level: str = "warning",
) -> list[str]:
    """Envoy's command line.

    Args:
        binary: Envoy's executable.
        config: file of the bootstrap; the suffix tells YAML from JSON.
        concurrency: worker threads.
        drain_seconds: how long a drain takes to ask every client to leave.
        log_level: of Envoy's own log, on standard error.
    """
    return [
        *(str(binary), "-c", str(config)),
        # Several Envoys on one host would else fight over shared memory.
        "--disable-hot-restart",
        *("--concurrency", str(concurrency)),
        *("--drain-time-s", str(drain_seconds)),
        *("--file-flush-interval-msec", str(LOG_FLUSH_MILLISECONDS)),
        *("--log-level", log_level),
    ]


def validate_command(binary: str | Path, config: str | Path) -> list[str]:
    """Check a bootstrap without serving; its log's folder must exist."""
    return [str(binary), "--mode", "validate", "-c", str(config), "--log-level", "error"]


class Admin:
    """Envoy's admin, over its socket file. A call takes at most `timeout` seconds."""

    def __init__(self, path: str | Path, timeout: float = 5.0) -> None:
        self._path, self._timeout = Path(path), timeout

    def ready(self) -> bool:
        """Tell whether Envoy serves; false as long as nothing listens."""
        with suppress(OSError, http.client.HTTPException):
            return self._ask("GET", "/ready")[0] == 200
        return False

    def listeners(self) -> dict[str, str]:
        """Where Envoy listens: the listener's name, then address and port.

        Raises:
            OSError: when Envoy does not answer.
        """
        _, text = self._ask("GET", "/listeners")
        pairs = (line.split("::", 1) for line in text.splitlines() if "::" in line)
        return {pair[0]: pair[1] for pair in pairs}

    def drain(self, *, graceful: bool = True) -> None:
        """Stop listening; requests that are being served go on.

        Args:
            graceful: first ask clients to leave, for as long as the drain time;
                otherwise stop listening at once.

        Raises:
            OSError: when Envoy does not answer.
        """
        self._ask("POST", "/drain_listeners" + ("?graceful&skip_exit" if graceful else ""))

    def open_requests(self) -> int:
        """How many client requests are being served, event streams included.

        Raises:
            OSError: when Envoy does not answer.
        """
        # The admin's own requests are counted apart, under http.admin.
        active = self.stats("downstream_rq_active")
        return sum(count for name, count in active.items() if not name.startswith("http.admin."))

    def stats(self, name: str) -> dict[str, int]:
        """Counters and gauges whose names contain `name` (a regular expression).

        Raises:
            OSError: when Envoy does not answer.
        """
        _, text = self._ask("GET", f"/stats?usedonly&filter={name}")
        pairs = (line.rsplit(": ", 1) for line in text.splitlines() if ": " in line)
        return {pair[0]: int(pair[1]) for pair in pairs if pair[1].isdecimal()}

    def _ask(self, method: str, path: str) -> tuple[int, str]:
        connection = _SocketFile(self._path, self._timeout)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        except http.client.HTTPException as error:
            raise OSError(f"`{self._path}` does not speak HTTP: {error}") from error
        finally:
            connection.close()


class _SocketFile(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("envoy", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        if len(os.fsencode(self._path)) <= SOCKET_PATH_BYTES:
            self.sock.connect(str(self._path))
            return
        # A deep folder: reach the socket through a descriptor of its folder (Linux).
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)

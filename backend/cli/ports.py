"""The loopback ports of a run, all counted from one base."""

import errno
import socket
from dataclasses import dataclass

from extauthz.core.errors import Conflict

HOST = "127.0.0.1"
DEFAULT_BASE = 8080
HIGHEST_BASE = 65535 - 14


@dataclass(frozen=True, slots=True)
class Ports:
    """Where each part listens, on 127.0.0.1."""

    base: int = DEFAULT_BASE

    @property
    def api(self) -> int:
        return self.base

    @property
    def ingest(self) -> int:
        return self.base + 1

    @property
    def ui(self) -> int:
        return self.base + 2

    @property
    def upstream(self) -> int:
        return self.base + 10

    @property
    def mcp(self) -> int:
        return self.base + 11

    @property
    def operations(self) -> int:
        """The decision point's health, metrics and status."""
        return self.base + 12

    @property
    def backend_metrics(self) -> int:
        return self.base + 13

    @property
    def ui_metrics(self) -> int:
        return self.base + 14

    def needed(self, *, starts_upstream: bool) -> dict[str, int]:
        """Every port that must be free before anything starts, by what needs it."""
        wanted = {
            "the api": self.api,
            "ingest": self.ingest,
            "the dashboard": self.ui,
            "the governed MCP server": self.mcp,
            "the decision point's metrics": self.operations,
            "the backend's metrics": self.backend_metrics,
            "the dashboard's metrics": self.ui_metrics,
        }
        return wanted | ({"the MCP server itself": self.upstream} if starts_upstream else {})


def check_free(wanted: dict[str, int]) -> None:
    """Find out that each port can be had.

    Args:
        wanted: ports by what needs them.

    Raises:
        Conflict: naming the first that is taken, what needs it, and the mend.
    """
    for what, port in wanted.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                why = "is taken" if error.errno == errno.EADDRINUSE else f"is refused ({error})"
                raise Conflict(
                    f"port {port}, which {what} needs, {why}; choose other ports with --port-base N"
                ) from error

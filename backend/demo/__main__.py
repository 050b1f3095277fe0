"""`python -m backend.demo`: run the reference MCP server until SIGTERM or Ctrl-C."""

import argparse
import logging
import socket
import warnings

import uvicorn
from mcp import MCPDeprecationWarning

from backend.demo.server import LOOPBACK_HOSTS, build_app

GRACE_SECONDS = 1
"""How long calls and open streams may go on after a stop signal."""

KEEP_ALIVE_SECONDS = 2 * 60 * 60
"""How long an idle connection stays: longer than a proxy keeps it (Envoy: one hour)."""


class Server(uvicorn.Server):
    """A server that cuts streams that are still open when it stops, without a traceback each."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, wait the grace, cut what is left."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m backend.demo", description="Run the reference MCP server."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8090, help="port to listen on (%(default)s)")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="Host value to answer besides loopback, without port; `*` for any (repeatable)",
    )
    options = parser.parse_args(arguments)
    # The older protocol era is served on purpose.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    app = build_app(allowed_hosts=[*LOOPBACK_HOSTS, *options.allowed_host])
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        log_level="warning",
        # The proxy in front closes idle connections; were we first, it could send a call into one.
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    Server(config).run()


if __name__ == "__main__":
    main()

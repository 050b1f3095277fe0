"""`python -m backend.demo`: run the reference MCP server until SIGTERM or Ctrl-C."""

import argparse
import warnings

import uvicorn
from mcp import MCPDeprecationWarning

from backend.demo.server import LOOPBACK_HOSTS, build_app

GRACE_SECONDS = 2
"""How long open streams may go on after a stop signal."""


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m backend.demo", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8090, help="port to listen on, 0 for any")
    parser.add_argument(
        "--allowed-host",
        action="append",
        metavar="NAME",
        help="Host value to answer besides loopback, without port; `*` for any (repeatable)",
    )
    options = parser.parse_args(arguments)
    # The older protocol era is served on purpose.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    app = build_app(allowed_hosts=[*LOOPBACK_HOSTS, *(options.allowed_host or ())])
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        log_level="warning",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


if __name__ == "__main__":
    main()

"""`python -m extauthz`: run the decision point until SIGTERM or SIGINT."""

import os

# gRPC reads it when it is imported. Its own lines are no JSON; what failed comes as a status, too.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import prometheus_client
import uvloop

from extauthz import logs
from extauthz.core import config
from extauthz.core.errors import Invalid
from extauthz.settings import Settings
from extauthz.wiring import serve

EXIT_INVALID = 2  # it can never work as it is set up


def main() -> int:
    """Read the settings and serve; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m extauthz",
        description="The decision point: answers Envoy's ext_authz Check by policy.",
        epilog="Settings come from the environment; README.md lists them.",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the settings that differ from their defaults, secrets hidden, and exit",
    )
    arguments = parser.parse_args()
    try:
        settings = config.load(Settings, os.environ, lambda path: Path(path).read_text("utf-8"))
        if arguments.print_config:
            sys.stdout.writelines(f"{line}\n" for line in config.changed(settings))
            return 0
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # a series each that nobody asks for
        logs.configure(settings.log_level, settings.log_format)
        uvloop.run(_run(settings))
    except Invalid as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_INVALID
    return 0


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, stop)


if __name__ == "__main__":
    sys.exit(main())

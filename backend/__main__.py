"""`python -m backend --target all|ingest|processor|api|controller [--print-config]`."""

import asyncio
import logging
import os
import sys
from pathlib import Path

import click
import uvloop

from backend import logs, wiring
from backend.lifecycle import stop_on_signals
from backend.settings import Settings
from extauthz.core import config
from extauthz.core.errors import SentinelError

CONFIGURATION_ERROR = 2


@click.command()
@click.option("--target", type=click.Choice(list(wiring.TARGETS)), required=True)
@click.option("--print-config", is_flag=True, help="Print what differs from the defaults, and end.")
def main(target: str, print_config: bool) -> None:
    """Run the backend, or one component of it. Settings come from the environment."""
    try:
        settings = config.load(Settings, os.environ, lambda path: Path(path).read_text("utf-8"))
        if print_config:
            click.echo("\n".join(config.changed(settings)))
            return
        logs.configure(settings.log_level)
        uvloop.run(_run(settings, target))
    except* SentinelError as errors:
        for error in _leaves(errors):
            click.echo(f"error: {error}", err=True)
        sys.exit(CONFIGURATION_ERROR)


async def _run(settings: Settings, target: str) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    await wiring.run(settings, target, stop)


def _leaves(group: BaseExceptionGroup[SentinelError]) -> list[SentinelError]:
    found: list[SentinelError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    logging.captureWarnings(True)
    main()

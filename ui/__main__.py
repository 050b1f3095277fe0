"""`python -m ui [--print-config]`."""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

import click
import waitress
from prometheus_client import start_http_server

from extauthz.core import config
from extauthz.core.errors import SentinelError
from extauthz.core.logline import LineFormatter
from ui.app import create_app
from ui.settings import Settings
from ui.upstream import Api

CONFIGURATION_ERROR: Final = 2
THREADS: Final = 16
MOST_BODY_BYTES: Final = 1 << 20  # it is read before anybody is asked who they are
_log = logging.getLogger(__name__)


@click.command()
@click.option("--print-config", is_flag=True, help="Print what differs from the defaults, and end.")
def main(print_config: bool) -> None:
    """Run the dashboard. Settings come from the environment."""
    try:
        settings = config.load(Settings, os.environ, lambda path: Path(path).read_text("utf-8"))
    except SentinelError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(CONFIGURATION_ERROR)
    if print_config:
        click.echo("\n".join(config.changed(settings)))
        return
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(as_json=True))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    _serve(settings)


def _serve(settings: Settings) -> None:
    if not settings.session_keys:
        _log.warning("UI_SESSION_KEYS is not set: logins end with this process")
    app = create_app(settings, Api(settings.api_upstream, settings.api_timeout_seconds))
    try:
        metrics, _ = start_http_server(settings.metrics_port, settings.host)
        server = waitress.create_server(
            app,
            host=settings.host,
            port=settings.port,
            threads=THREADS,
            ident=None,
            max_request_body_size=MOST_BODY_BYTES,
        )
    except OSError as error:
        click.echo(f"error: PORT or METRICS_PORT: {error.strerror}; set another", err=True)
        sys.exit(CONFIGURATION_ERROR)
    signal.signal(signal.SIGTERM, _stop)
    _log.info("listens", extra={"port": server.effective_port})
    server.run()  # until SystemExit: requests that came are answered first
    metrics.shutdown()


def _stop(*_: Any) -> None:
    raise SystemExit


if __name__ == "__main__":
    logging.captureWarnings(True)
    main()

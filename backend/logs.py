"""Logs as JSON lines on stderr."""

import logging

from extauthz.core.logline import LineFormatter, quotes_nobody


def configure(level: str) -> None:
    """Log everything of at least `level` to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(as_json=True))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp.server").addFilter(quotes_nobody)
    # It tells ten times a second that a broker is away; the adapter's errors say it, too.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

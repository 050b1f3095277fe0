"""Logs as JSON lines on stderr."""

import logging

from aiohttp.http_exceptions import HttpProcessingError

from extauthz.core.logline import LineFormatter


def configure(level: str) -> None:
    """Log everything of at least `level` to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(as_json=True))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp.server").addFilter(_quotes_nobody)
    # It tells ten times a second that a broker is away; the adapter's errors say it, too.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _quotes_nobody(record: logging.LogRecord) -> bool:
    """False for what is no HTTP: aiohttp repeats it, be it a key or a payload."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)

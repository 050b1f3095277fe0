"""Logs: one line per event on stderr, as JSON or as text."""

import logging

from extauthz.core.logline import LineFormatter, quotes_nobody


def configure(level: str, log_format: str) -> None:
    """Send all logs to stderr.

    Args:
        level: debug, info, warning or error.
        log_format: json or text.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(as_json=log_format == "json"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp.server").addFilter(quotes_nobody)
    for chatty in ("watchfiles", "grpc", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("stamina").setLevel(logging.ERROR)  # each retry; the emitter says it once

"""How a log record is written: on one line, as JSON or as text."""

import json
import logging
from typing import Any, Final

import orjson

from extauthz.core.times import format_instant

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def quotes_nobody(record: logging.LogRecord) -> bool:
    """False for what a stranger can make aiohttp's server log: it repeats what is no HTTP.

    A filter of that logger. A key or a payload may stand there, and each request makes a line;
    what our own handlers raise does not come this way.
    """
    error = record.exc_info[1] if record.exc_info else None
    modules = {kind.__module__ for kind in type(error).__mro__}
    return "aiohttp.http_exceptions" not in modules and not isinstance(error, UnicodeError)


class LineFormatter(logging.Formatter):
    """Writes a record and its `extra` members on one line.

    Args:
        as_json: else `time level logger message name=value …`.
    """

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the record holds."""
        members: dict[str, Any] = {
            "time": format_instant(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        members |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            members["error"] = self.formatException(record.exc_info)
        if self._as_json:
            try:
                return orjson.dumps(members, default=str).decode()
            except orjson.JSONEncodeError:  # half a surrogate pair, or a very large number
                return json.dumps(members, default=str)
        head = [str(members.pop(name)) for name in ("time", "level", "logger", "message")]
        tail = [f"{name}={str(value)!r}" for name, value in members.items()]
        return " ".join((*(part.replace("\n", "\\n") for part in head), *tail))

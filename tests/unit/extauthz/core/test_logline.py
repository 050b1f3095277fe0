"""One event is one line."""

import json
import logging

from extauthz.core.logline import LineFormatter


def record(**extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "n", "levelname": "INFO", "created": 0.0, "msg": "a\nb"})
    vars(made).update(extra)
    return made


def test_json() -> None:
    """As JSON, with every extra member, whatever its type."""
    line = LineFormatter(as_json=True).format(record(why=ValueError("x\ny"), count=2))
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.000Z",
        "level": "info",
        "logger": "n",
        "message": "a\nb",
        "why": "x\ny",
        "count": 2,
    }
    assert "\n" not in line


def test_what_is_no_text() -> None:
    """Bytes of a header that are no UTF-8, and large numbers, are still one line of JSON."""
    line = LineFormatter(as_json=True).format(record(why="\udcff", count=1 << 80))
    assert json.loads(line).items() >= {"why": "\udcff", "count": 1 << 80}.items()
    assert line.isascii()


def test_text() -> None:
    """As text, with line ends and terminal escapes quoted in the members."""
    line = LineFormatter(as_json=False).format(record(why="x\n\x1b[31m"))
    assert line == "1970-01-01T00:00:00.000Z info n a\\nb why='x\\n\\x1b[31m'"

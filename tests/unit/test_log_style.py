"""How the product logs: one constant message, and beside it what varies, under known names."""

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
OWN = set(vars(logging.makeLogRecord({})))

# Every name that a log line's members have. What went wrong is `error`, always; the mend stands
# in the message.
NAMES = {
    "error",  # what went wrong: the error's text, or its type where the text could quote a call
    "path",  # a file, or the path of a request
    "count",  # how many the message speaks of
    *("sequence", "first", "last", "end", "cause"),  # places in the trail or the log, and gaps
    *("event_id", "dead_letter", "change", "committed", "partitions", "migration", "days"),
    *("server", "mode", "policy_revision", "source", "ready", "check_address", "metrics_port"),
    *("issuer", "keys", "principal", "unit", "units"),
}


def _calls() -> Iterator[tuple[str, ast.Call, dict[str, ast.expr]]]:
    """Each call of a logger, where it stands, and what its function gives names to."""
    for root in ("extauthz", "backend", "envoy", "ui"):
        for path in sorted((ROOT / root).rglob("*.py")):
            for function in ast.walk(ast.parse(path.read_text())):
                if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    inside = list(ast.walk(function))
                    named = dict(pair for node in inside for pair in _named(node))
                    for call in filter(_logs, inside):
                        assert isinstance(call, ast.Call)
                        yield f"{path.relative_to(ROOT)}:{call.lineno}", call, named


def _named(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name, value


def _logs(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="_log"), attr=level)):
            return level in LEVELS
    return False


CALLS = list(_calls())


@pytest.mark.parametrize(("call", "named"), [pytest.param(*rest, id=at) for at, *rest in CALLS])
def test_what_varies_stands_beside_a_constant_message(
    call: ast.Call, named: dict[str, ast.expr]
) -> None:
    """The message is one string, without places to fill; `extra` has known names alone."""
    (message,) = call.args
    assert isinstance(message, ast.Constant), "log a constant message; what varies goes to `extra`"
    assert isinstance(message.value, str)
    assert "%" not in message.value
    for given in call.keywords:
        if given.arg == "extra":
            members = named[given.value.id] if isinstance(given.value, ast.Name) else given.value
            assert isinstance(members, ast.Dict), "write `extra` as a dictionary, in this function"
            names = {ast.literal_eval(key) for key in members.keys if key}
            assert names <= NAMES, "use a name of NAMES, or add one that says something else"


def test_no_name_is_the_record_s_own() -> None:
    """Logging refuses a member that would stand in place of a record's attribute."""
    assert not NAMES & OWN
    assert len(CALLS) > 30

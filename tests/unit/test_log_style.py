"""How the product logs: one constant message, and beside it what varies, under known names."""

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "log"}
OWN = set(vars(logging.makeLogRecord({})))

# Every name that a log line's members have. What went wrong is `error`, always; the mend stands
# in the message.
NAMES = {
    "error",  # what went wrong: the error's text, or its type where the text could quote a call
    "topic",
    "path",  # a file, or the path of a request
    "count",  # how many the message speaks of
    *("sequence", "first", "last", "end", "cause"),  # places in the trail or the log, and gaps
    *(
        "event_id",
        "dead_letter",
        "change",
        "committed",
        "partitions",
        "migration",
        "days",
        "seconds",
    ),
    *(
        "server",
        "mode",
        "policy_revision",
        "source",
        "ready",
        "check_address",
        "metrics_port",
        "port",
    ),
    *("issuer", "keys", "principal", "unit", "units"),
    *("kind", "namespace", "object"),  # a custom resource
    *("controller", "gateway", "leader", "standing", "secret", "names"),  # who follows whom
}


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for root in ("extauthz", "backend", "envoy", "ui", "k8s", "protos"):
        for path in sorted((ROOT / root).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


MODULES = list(_modules())


def _calls() -> Iterator[tuple[str, ast.Call, dict[str, ast.expr]]]:
    """Each call of a logger, where it stands, and what its function gives names to."""
    for path, module in MODULES:
        returned = dict(pair for node in module.body for pair in _named(node))
        for function in ast.walk(module):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                inside = list(ast.walk(function))
                named = returned | dict(pair for node in inside for pair in _named(node))
                for call in filter(_logs, inside):
                    assert isinstance(call, ast.Call)
                    yield f"{path}:{call.lineno}", call, named


def _named(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name, value
        case ast.FunctionDef(name=name, body=[*_, ast.Return(value=ast.expr() as value)]):
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
            names = set(_members(given.value, named))
            assert names <= NAMES, "use a name of NAMES, or add one that says something else"


def _members(extra: ast.expr, named: dict[str, ast.expr]) -> Iterator[str]:
    """Its names: of a dictionary, one that has a name or is returned, or several joined."""
    match extra:
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)) if name in named:
            yield from _members(named[name], named)
        case ast.IfExp(body=body, orelse=orelse):
            yield from _members(body, named)
            yield from _members(orelse, named)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from _members(left, named)
            yield from _members(right, named)
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                yield from [ast.literal_eval(key)] if key else _members(value, named)
        case _:
            pytest.fail("write `extra` as a dictionary, here or as what a function returns")


def test_no_name_is_the_record_s_own() -> None:
    """Logging refuses a member that would stand in place of a record's attribute."""
    assert not NAMES & OWN
    assert len(CALLS) > 30


@pytest.mark.parametrize(("path", "module"), [pytest.param(*each, id=each[0]) for each in MODULES])
def test_nothing_is_logged_but_by_log(path: str, module: ast.Module) -> None:
    """A module's own logger is `_log`, and nobody else's writes for it: else no rule is held."""
    bound = 0
    for node in ast.walk(module):
        match node:
            case ast.Assign(targets=[ast.Name(id="_log")], value=ast.Call() as value):
                bound += _makes_own(value)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="logging"), attr=level)):
                assert level not in LEVELS, "log by the module's own `_log`"
            case ast.Call(func=ast.Attribute(value=ast.Call() as made, attr=level)):
                assert not (_makes(made) and level in LEVELS), "bind the logger to `_log`"
            case ast.Call(keywords=given) if any(each.arg == "extra" for each in given):
                assert _logs(node), "log by the module's own `_log`"
    made = sum(_makes_own(node) for node in ast.walk(module))
    assert made == bound, "name the module's logger `_log`"


def _makes(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="logging"), attr="getLogger")):
            return True
    return False


def _makes_own(node: ast.AST) -> bool:
    match node:
        case ast.Call(args=[ast.Name(id="__name__")]):
            return _makes(node)
    return False

"""Bodies of requests: strict JSON, read as the type that a route declares."""

import re
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec
from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from backend.api.refusals import bad_body, bad_json, too_large, unsupported
from extauthz.core import strictjson
from extauthz.core.fields import nearest

T = TypeVar("T")

MAX_BODY_BYTES: Final = 64 << 10
LIMITS: Final = strictjson.Limits(containers=4096, members=16_384, elements=32_768)

_WHERE: Final = re.compile(r"^(?P<problem>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)


def read_body(kind: type[T]) -> T:
    """The request's body.

    Args:
        kind: of a struct; its own declaration says whether unknown members are refused.

    Raises:
        Refused: the body is too large, of another type, not strict JSON, or not of that kind.
    """
    if request.mimetype != "application/json":
        raise unsupported(request.mimetype)
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise too_large(MAX_BODY_BYTES) from None
    except ClientDisconnected:
        raise bad_json("the body ended too early") from None
    try:
        value = strictjson.parse(body, LIMITS)
    except strictjson.Doubtful as error:
        raise bad_json(error.detail) from None
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error), kind) from None


def _explained(said: str, kind: Any) -> Exception:
    """msgspec's sentence as ours: field, problem, mend."""
    match = _WHERE.match(said)
    problem, path = (match["problem"], match["path"] or "") if match else (said, "")
    if unknown := _UNKNOWN.fullmatch(problem):
        name, known = unknown["name"], frozenset(_names(kind, path))
        near = nearest(name, known)
        mend = f"did you mean `{near}`?" if near else f"known: {', '.join(sorted(known))}"
        return bad_body(_joined(path, name), "is not a known field", mend)
    if missing := _MISSING.fullmatch(problem):
        return bad_body(_joined(path, missing["name"]), "is required", "set it")
    return bad_body(path, problem[:1].lower() + problem[1:], "write it as /api/docs says")


def _joined(path: str, name: str) -> str:
    return f"{path}.{name[:64]}" if path else name[:64]


def _names(kind: Any, path: str) -> Iterator[str]:
    """Members of the struct at a path, such as `toolRules[0]`."""
    found = list(_structs(msgspec.inspect.type_info(kind)))
    for step in filter(None, path.split(".")):
        members = [member for each in found for member in each.fields]
        found = [
            inner
            for member in members
            if member.encode_name == step.partition("[")[0]
            for inner in _structs(member.type)
        ]
    return (member.encode_name for each in found for member in each.fields)


def _structs(kind: msgspec.inspect.Type) -> Iterator[msgspec.inspect.StructType]:
    """Those that a value may be, or an item of it."""
    if isinstance(kind, msgspec.inspect.StructType):
        yield kind
    elif isinstance(kind, msgspec.inspect.UnionType):
        for each in kind.types:
            yield from _structs(each)
    elif isinstance(kind, msgspec.inspect.ListType):
        yield from _structs(kind.item_type)

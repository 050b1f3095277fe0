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
MOST_CONTAINERS: Final = 4096

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
        value = strictjson.parse(body, MOST_CONTAINERS)
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
        name, known = unknown["name"], frozenset(_names(kind))
        near = nearest(name, known)
        mend = f"did you mean `{near}`?" if near else f"known: {', '.join(sorted(known))}"
        return bad_body(_joined(path, name), "is not a known field", mend)
    if missing := _MISSING.fullmatch(problem):
        return bad_body(_joined(path, missing["name"]), "is required", "set it")
    return bad_body(path, problem[:1].lower() + problem[1:], "write it as /api/docs says")


def _joined(path: str, name: str) -> str:
    return f"{path}.{name[:64]}" if path else name[:64]


def _names(kind: Any) -> Iterator[str]:
    """Members of a struct and of those within it."""
    pending, seen = [msgspec.inspect.type_info(kind)], set[Any]()
    while pending:
        found = pending.pop()
        if isinstance(found, msgspec.inspect.UnionType):
            pending += found.types
        elif isinstance(found, msgspec.inspect.StructType) and found.cls not in seen:
            seen.add(found.cls)
            for member in found.fields:
                yield member.encode_name
                pending.append(member.type)
        elif isinstance(found, msgspec.inspect.ListType):
            pending.append(found.item_type)

"""How servers read a body: every lenient way that we know of, as tool calls found in it."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import orjson

TOOL_CALLS: Final = frozenset({"tools/call", "call_tool"})
ENCODINGS: Final = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1")

Pairs = list[tuple[str, Any]]


class Members:
    """A JSON object whose repeated members are all kept."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs


Find = Callable[[Members, str], Iterator[Any]]


def last(members: Members, name: str) -> Iterator[Any]:
    """The last member of the name: Python, JavaScript."""
    yield from [value for key, value in members.pairs if key == name][-1:]


def first(members: Members, name: str) -> Iterator[Any]:
    """The first: some C and Rust readers."""
    yield from [value for key, value in members.pairs if key == name][:1]


def folded_last(members: Members, name: str) -> Iterator[Any]:
    """The last whose name is equal but for case: Go's encoding/json."""
    yield from [value for key, value in members.pairs if fold(key) == fold(name)][-1:]


def folded_first(members: Members, name: str) -> Iterator[Any]:
    """The first whose name is equal but for case."""
    yield from [value for key, value in members.pairs if fold(key) == fold(name)][:1]


READERS: Final = (last, first, folded_last, folded_first)


def fold(name: str) -> str:
    """Simple case folding, which takes U+017F for s and U+212A for k."""
    return name.casefold()


def documents(body: bytes) -> Iterator[Any]:
    """Every JSON document that some reader finds in the body, objects as `Members`."""
    seen: set[str] = set()
    decoder = json.JSONDecoder(object_pairs_hook=Members, strict=False)
    for encoding in ENCODINGS:
        for errors in ("strict", "replace", "surrogatepass"):
            try:
                text = body.decode(encoding, errors)
            except (UnicodeError, LookupError):
                continue
            if text not in seen:
                seen.add(text)
                yield from _decode_all(decoder, text)
    with suppress(ValueError):
        yield _members(orjson.loads(body))


def _decode_all(decoder: json.JSONDecoder, text: str) -> Iterator[Any]:
    """One document after another, as stream readers take them."""
    at = 0
    while at < len(text):
        while at < len(text) and (text[at].isspace() or text[at] in "\0\ufeff\x1e"):
            at += 1
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        yield value


def _members(value: Any) -> Any:
    if isinstance(value, dict):
        return Members([(key, _members(each)) for key, each in value.items()])
    return [_members(each) for each in value] if isinstance(value, list) else value


def tool_calls(body: bytes) -> set[str]:
    """The names of all tools that some reader would call for this body.

    Batches are run; a call needs neither an id nor `jsonrpc`.
    """
    found: set[str] = set()
    for document in documents(body):
        for message in document if isinstance(document, list) else [document]:
            if isinstance(message, Members):
                for find in READERS:
                    found.update(_called(message, find))
    return found


def _called(message: Members, find: Find) -> Iterator[str]:
    for method in find(message, "method"):
        if isinstance(method, str) and method.strip("\0\t\r\n /").casefold() in TOOL_CALLS:
            for params in find(message, "params"):
                if isinstance(params, Members):
                    yield from (name for name in find(params, "name") if isinstance(name, str))

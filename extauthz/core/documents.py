"""Reads YAML as Kubernetes does, to JSON types, and remembers the lines.

A timestamp stays the text it is, tags that are not JSON are refused, so are
duplicate keys, keys that are no strings, and whatever grows without bound. The
stream is read event by event: a hostile file costs neither stack nor memory.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.constructor import SafeConstructor

from extauthz.core.errors import Invalid

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
MAX_DEPTH: Final = 64
MAX_PATH: Final = 1024  # characters; every node keeps its own
MAX_ALIASED_NODES: Final = 10_000  # what aliases may add to one file, expanded

_ITEM: Final = re.compile(r"items\[(?P<place>[0-9]+)\]\.?(?P<inner>.*)", re.DOTALL)

_TAG: Final = "tag:yaml.org,2002:"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """One document as plain data.

    Args:
        value: JSON types.
        line: where it starts, from 1.
        lines: field path to line.
    """

    value: Any
    line: int
    lines: dict[str, int] = field(repr=False)

    def line_of(self, path: str) -> int:
        """The line of a field, or of the nearest thing around it that is there."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path, self.line)


class Unreadable(Invalid):
    """The text is not YAML that we take; `line` says where (from 1, 0 when unknown)."""

    def __init__(self, line: int, field: str, problem: str, mend: str = "") -> None:
        self.line = line
        super().__init__(field, problem, mend)


def read_documents(raw: bytes) -> Iterator[Document]:
    """Read the documents of a YAML stream; empty ones are left out, a `v1` List is its items.

    Raises:
        Unreadable: at the first thing that is not YAML as we take it.
    """
    if len(raw) > MAX_FILE_BYTES:
        raise Unreadable(0, "", f"is larger than {MAX_FILE_BYTES} bytes", "split the file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Unreadable(line, "", "is not UTF-8 text", "save it as UTF-8") from None
    for document in _Stream(text).documents():
        if document.value is not None:
            yield from _flatten(document)


def _flatten(document: Document) -> Iterator[Document]:
    """The items of a List, as `kubectl get -o yaml` writes it; else the document itself."""
    match document.value:
        case {"apiVersion": "v1", "kind": "List", "items": [*items]}:
            by_place: dict[str, dict[str, int]] = {}
            for path, line in document.lines.items():
                if found := _ITEM.fullmatch(path):
                    by_place.setdefault(found["place"], {})[found["inner"]] = line
            for place, item in enumerate(items):
                lines = by_place.get(str(place), {})  # none where the items came by an alias
                yield from _flatten(Document(item, lines.get("", document.line), lines))
        case _:
            yield document


class _Stream:
    """Plain data from the events of one YAML stream."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._lines: dict[str, int] = {}
        self._nodes = 0
        self._aliased = 0
        self._scalars = SafeConstructor()

    def documents(self) -> Iterator[Document]:
        try:
            self._loader = _Loader(self._text)
            try:
                yield from self._documents()
            finally:
                self._loader.dispose()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 0
            raise Unreadable(line, "", f"is not YAML: {error.problem}", "mend it") from None
        except yaml.YAMLError:
            mend = "remove control characters"
            raise Unreadable(0, "", "holds characters that YAML forbids", mend) from None

    def _documents(self) -> Iterator[Document]:
        while not isinstance(event := self._loader.get_event(), yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors, self._lines = {}, {}
                first = self._loader.get_event()
                line = first.start_mark.line + 1
                value = self._node(first, "", 1)
                yield Document(value, line, self._lines)

    def _node(self, event: Any, path: str, depth: int) -> Any:
        """The value that begins with `event`."""
        line = event.start_mark.line + 1
        self._lines.setdefault(path, line)
        if depth > MAX_DEPTH:
            raise Unreadable(line, path, f"is nested deeper than {MAX_DEPTH}", "flatten it")
        if len(path) > MAX_PATH:
            shown = f"{path[:64]}…"
            raise Unreadable(line, shown, "stands under keys that are too long", "shorten them")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, path, line)
        before = self._nodes
        self._nodes += 1
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, path, line)
        else:
            self._only_plain(event, path, line)
            is_map = isinstance(event, yaml.MappingStartEvent)
            value = self._mapping(path, depth) if is_map else self._sequence(path, depth)
        if event.anchor:
            self._anchors[event.anchor] = (value, self._nodes - before)
        return value

    def _alias(self, anchor: str | None, path: str, line: int) -> Any:
        if anchor is None or anchor not in self._anchors:
            mend = "define the anchor before it, and not around it"
            raise Unreadable(line, path, f"alias `*{anchor}` names no anchor", mend)
        value, size = self._anchors[anchor]
        self._nodes += size
        self._aliased += size
        if self._aliased > MAX_ALIASED_NODES:
            raise Unreadable(line, path, "aliases grow without bound", "write the values out")
        return value

    def _only_plain(self, event: Any, path: str, line: int) -> None:
        if event.tag not in {None, "!", f"{_TAG}map", f"{_TAG}seq"}:
            raise Unreadable(line, path, f"tag `{event.tag}` is not JSON", "remove the tag")

    def _sequence(self, path: str, depth: int) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := self._loader.get_event(), yaml.SequenceEndEvent):
            found.append(self._node(event, f"{path}[{len(found)}]", depth + 1))
        return found

    def _mapping(self, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[dict[str, Any]] = []
        while not isinstance(event := self._loader.get_event(), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise Unreadable(line, path, "a key is not a string", "write a plain key")
            tag = self._tag(event)
            key = event.value
            if tag == f"{_TAG}merge":
                merged += self._merge(path, line, depth)
                continue
            if tag not in {f"{_TAG}str", f"{_TAG}value"}:
                raise Unreadable(line, path, f"key `{key}` is not a string", "quote it")
            if key in found:
                raise Unreadable(line, path, f"second key `{key}`", "keep one of them")
            inner = f"{path}.{key}" if path else key
            self._lines[inner] = line
            found[key] = self._node(self._loader.get_event(), inner, depth + 1)
        for other in merged:
            for key, value in other.items():
                found.setdefault(key, value)
        return found

    def _merge(self, path: str, line: int, depth: int) -> list[dict[str, Any]]:
        """What `<<` brings in: one object or a list of them, the first of them first."""
        value = self._node(self._loader.get_event(), f"{path}.<<", depth + 1)
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            raise Unreadable(line, path, "`<<` merges something else than objects", "remove it")
        return sources

    def _tag(self, event: Any) -> str:
        if event.tag in {None, "!"}:
            return str(self._loader.resolve(yaml.ScalarNode, event.value, event.implicit))
        return str(event.tag)

    def _scalar(self, event: Any, path: str, line: int) -> Any:
        tag, text = self._tag(event), str(event.value)
        node = yaml.ScalarNode(tag, text)
        try:
            match tag.removeprefix(_TAG):
                case "str" | "timestamp" | "value" | "merge":
                    return text
                case "null":
                    return None
                case "bool":
                    return self._scalars.construct_yaml_bool(node)
                case "int" | "float" if ":" in text:  # base 60 in YAML 1.1, text in Kubernetes
                    return text
                case "int":
                    return self._scalars.construct_yaml_int(node)
                case "float" if math.isfinite(number := self._scalars.construct_yaml_float(node)):
                    return number
        except (KeyError, ValueError):
            pass
        shown = text[:64]
        raise Unreadable(line, path, f"`{shown}` is not a JSON value", "quote it, without a tag")

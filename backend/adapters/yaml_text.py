"""One custom resource in a YAML text: written, found, changed, cut out. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from backend.adapters.yaml_changes import Changing
from backend.adapters.yaml_values import block
from extauthz.core.errors import Invalid
from extauthz.core.governance import Key
from extauthz.core.model import DEFAULT_NAMESPACE
from extauthz.core.writing import Object

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MARKER: Final = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_UNUSUAL: Final = re.compile(r"^(?:%|\.\.\.(?=\s|$))", re.MULTILINE)


def new_text(written: Object) -> str:
    """A file with one object, as a person would write it."""
    return block(written)


def changed_text(text: str, key: Key, before: Object, after: Object) -> str:
    """The text with one object changed.

    Args:
        before, after: the object, as `to_object` writes it.

    Raises:
        Invalid: it holds what cannot be changed without damage.
    """
    with_end, end = _ended(text)
    place = _place(with_end, key)
    changing = Changing(with_end)
    changing.mapping(place.node, before, after)
    return changing.text().removesuffix(end)


def cut_text(text: str, key: Key) -> str:
    """The text without one object; empty when nothing else stands in it.

    Raises:
        Invalid: it holds what cannot be cut out without damage.
    """
    with_end, end = _ended(text)
    place = _place(with_end, key)
    others = place.documents - 1
    if place.around is not None and len(place.around.value) > 1:
        changing = Changing(with_end)
        changing.remove(place.around, place.node)
        return changing.text().removesuffix(end)
    if not others:
        return ""
    if _UNUSUAL.search(with_end):
        raise Invalid("", "has `...` or `%` lines", "write `---` between its documents")
    markers = list(_MARKER.finditer(with_end))
    before = [m.start() for m in markers if m.start() <= place.document.start_mark.index]
    after = [m for m in markers if m.start() > place.document.start_mark.index]
    if before:
        return with_end[: before[-1]] + (with_end[after[0].start() :] if after else "")
    if with_end[after[0].end() :].partition("\n")[0].strip():  # its document begins in its line
        return with_end[after[0].start() :]
    return with_end[with_end.index("\n", after[0].start()) + 1 :]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an object stands.

    Args:
        node: its own.
        around: the `items` of the List that it is one of; None where it is a document.
        document: the root.
        documents: how many of them the text has that are not empty.
    """

    node: yaml.Node
    around: yaml.SequenceNode | None
    document: yaml.Node
    documents: int


def _place(text: str, key: Key) -> _Place:
    try:
        roots = [root for root in yaml.compose_all(text, Loader=_Loader) if not _is_null(root)]
    except yaml.MarkedYAMLError as error:  # two anchors of one name
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise Invalid(
            "", f"{error.problem} (line {line})", "give each a name of its own"
        ) from error
    for root in roots:
        for node, around in _objects(root, None):
            if _key(node) == key:
                _refuse_anchors(text, node)
                return _Place(node, around, root, len(roots))
    raise Invalid("", f"`{key.namespace}/{key.name}` cannot be found in it", "edit it by hand")


def _objects(
    node: yaml.Node, around: yaml.SequenceNode | None
) -> Iterator[tuple[yaml.Node, yaml.SequenceNode | None]]:
    items = _member(node, "items")
    is_list = _scalar(node, "kind") == "List" and _scalar(node, "apiVersion") == "v1"
    if is_list and isinstance(items, yaml.SequenceNode):
        for item in items.value:
            yield from _objects(item, items)
    else:
        yield node, around


def _key(node: yaml.Node) -> Key:
    metadata = _member(node, "metadata")
    namespace = _scalar(metadata, "namespace") or DEFAULT_NAMESPACE
    return Key(_scalar(node, "kind"), namespace, _scalar(metadata, "name"))


def _member(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == name), None)


def _scalar(node: yaml.Node | None, name: str) -> str:
    found = _member(node, name)
    return str(found.value) if isinstance(found, yaml.ScalarNode) else ""


def _is_null(node: yaml.Node | None) -> bool:
    return node is None or node.tag == "tag:yaml.org,2002:null"


def _refuse_anchors(text: str, node: yaml.Node) -> None:
    """What is named elsewhere, or taken from there, cannot be changed here alone."""
    first, last = node.start_mark.index, node.end_mark.index
    if not set("&*").intersection(text[first:last]):  # spares a large file's every event
        return
    events: Iterator[Any] = yaml.parse(text, Loader=_Loader)
    for event in events:
        if first <= event.start_mark.index < last and getattr(event, "anchor", None):
            line = event.start_mark.line + 1
            problem = f"holds the anchor or alias `{event.anchor}` (line {line})"
            raise Invalid("", problem, "write the values out, or edit it by hand")


def _ended(text: str) -> tuple[str, str]:
    """The text with an end of its last line, and what was added to it."""
    if not text or text.endswith("\n"):
        return text, "\0"
    end = "\r\n" if "\r\n" in text else "\n"
    return text + end, end

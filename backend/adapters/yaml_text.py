"""Changes custom resources in a YAML text, and not a character beside them. Pure.

PyYAML says where each value stands, and only those places are replaced: comments, order,
quotes and indentation of the rest stay as somebody wrote them.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import yaml

from extauthz.core.errors import Invalid
from extauthz.core.governance import Key
from extauthz.core.model import DEFAULT_NAMESPACE
from extauthz.core.writing import Object, merge_patch

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MARKER: Final = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_UNUSUAL: Final = re.compile(r"^(?:%|\.\.\.(?=\s|$))", re.MULTILINE)
_PLAIN: Final = re.compile(r"[A-Za-z/_][A-Za-z0-9 _./@:+-]*")


class _Dumper(yaml.SafeDumper):
    """Indents lists, and quotes what another reader of YAML may take for something else."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in {"y", "n"}
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, None if is_plain else '"')


_Dumper.add_representer(str, _represent)


def new_text(written: Object) -> str:
    """A file with one object, as a person would write it."""
    return _block(written)


def changed_text(text: str, key: Key, before: Object, after: Object) -> str:
    """The text with one object changed.

    Args:
        before, after: the object, as `to_object` writes it.

    Raises:
        Invalid: it holds what cannot be changed without damage.
    """
    with_end, end = _ended(text)
    place = _place(with_end, key)
    changing = _Changing(with_end)
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
        changing = _Changing(with_end)
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
    roots = [root for root in yaml.compose_all(text, Loader=_Loader) if not _is_null(root)]
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
    for event in yaml.parse(text, Loader=_Loader):
        if first <= event.start_mark.index < last and getattr(event, "anchor", None):
            line = event.start_mark.line + 1
            problem = f"holds the anchor or alias `{event.anchor}` (line {line})"
            raise Invalid("", problem, "write the values out, or edit it by hand")


@dataclass(slots=True)
class _Cut:
    start: int
    end: int
    text: str = ""


class _Changing:
    """Collects what is to be replaced in a text that ends with a line's end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._eol = "\r\n" if "\r\n" in text else "\n"
        self._cuts: list[_Cut] = []

    def text(self) -> str:
        """The text, changed."""
        done, at = "", 0
        for cut in sorted(self._cuts, key=lambda each: (each.start, each.end)):
            done += self._text[at : cut.start] + cut.text.replace("\n", self._eol)
            at = cut.end
        return done + self._text[at:]

    def mapping(self, node: yaml.Node, old: Object, new: Object) -> None:
        """Make the members of `new` of those of `old`."""
        if not isinstance(node, yaml.MappingNode):
            raise Invalid("", "is written in a way that cannot be changed", "edit it by hand")
        there = {key.value: (key, value) for key, value in node.value}
        gone, added = [], {}
        for name, value in merge_patch(old, new).items():
            wanted = new.get(name, value)
            if name not in there:
                added |= {} if wanted is None else {name: wanted}
            elif wanted is None:
                gone.append(there[name])
            else:
                self._value(node, *there[name], old.get(name), wanted)
        self._members(node, node.value, gone, added)

    def remove(self, node: yaml.SequenceNode, item: yaml.Node) -> None:
        """Take one item out of a list that has others."""
        self._members(node, [(each, each) for each in node.value], [(item, item)], [])

    def _value(
        self, parent: yaml.Node, key: yaml.Node, node: yaml.Node, old: Any, new: Any
    ) -> None:
        """Replace a member's value, as little of it as will do."""
        if isinstance(node, yaml.MappingNode) and isinstance(old, dict) and isinstance(new, dict):
            self.mapping(node, old, new)
        elif isinstance(node, yaml.SequenceNode) and node.value and isinstance(old, list) and new:
            self._sequence(node, old, new)
        elif self._is_flow(parent):
            self._put(node, self._flow(parent, new))
        elif isinstance(node, yaml.ScalarNode) and not isinstance(new, dict | list):
            if node.style in {"|", ">"}:
                self._entry(parent, key, node, new)
            else:
                self._put(node, _inline(new))
        else:
            self._entry(parent, key, node, new)

    def _put(self, node: yaml.Node, text: str) -> None:
        start, end = node.start_mark.index, node.end_mark.index
        self._cuts.append(_Cut(start, end, text if end > start else f" {text}"))

    def _entry(self, parent: yaml.Node, key: yaml.Node, node: yaml.Node, new: Any) -> None:
        text = _indented(_block({key.value: new}), parent.start_mark.column).strip()
        self._cuts.append(_Cut(key.start_mark.index, self._end(node), text))

    def _sequence(self, node: yaml.SequenceNode, old: list[Any], new: list[Any]) -> None:
        """Keep the items that stay, whole lines with their comments."""
        names = [_name(item) for item in old]
        kept = [item for item in new if _name(item) in names]
        if len(old) != len(node.value) or [n for n in names if n in map(_name, kept)] + [
            _name(item) for item in new if _name(item) not in names
        ] != [_name(item) for item in new]:
            kept = []
        stays = {_name(item): item for item in kept}
        gone = []
        for item, before in zip(node.value, old, strict=False):
            after = stays.get(_name(before))
            if after is None:
                gone.append((item, item))
            elif after != before:
                self.mapping(item, before, after)
        gone = [(item, item) for item in node.value] if not kept else gone
        added = [item for item in new if _name(item) not in stays]
        self._members(node, [(item, item) for item in node.value], gone, added)

    def _members(
        self,
        node: yaml.Node,
        members: Sequence[tuple[yaml.Node, yaml.Node]],
        gone: Sequence[tuple[yaml.Node, yaml.Node]],
        added: Object | list[Any],
    ) -> None:
        if not gone and not added:
            return
        if self._is_flow(node):
            self._flow_members(node, members, gone, added)
        else:
            self._block_members(node, members, gone, added)

    def _flow_members(
        self,
        node: yaml.Node,
        members: Sequence[tuple[yaml.Node, yaml.Node]],
        gone: Sequence[tuple[yaml.Node, yaml.Node]],
        added: Object | list[Any],
    ) -> None:
        spans = [(first.start_mark.index, last.end_mark.index) for first, last in members]
        lost = {first.start_mark.index for first, _ in gone}
        kept = [i for i, span in enumerate(spans) if span[0] not in lost]
        glue = ", "
        if len(members) > 1 and members[0][0].start_mark.line != members[1][0].start_mark.line:
            glue = ",\n" + " " * members[0][0].start_mark.column
        texts = self._flow_texts(node, added)
        if not kept:
            start = spans[0][0] if spans else node.start_mark.index + 1
            end = spans[-1][1] if spans else start
            self._cuts.append(_Cut(start, end, glue.join(texts)))
            return
        if kept[0] > 0:
            self._cuts.append(_Cut(spans[0][0], spans[kept[0]][0]))
        for one, following in pairwise(kept):
            if following > one + 1:
                self._cuts.append(_Cut(spans[one + 1][0], spans[following][0]))
        end = spans[kept[-1]][1]
        if kept[-1] + 1 < len(spans):
            self._cuts.append(_Cut(end, spans[-1][1]))
            end = spans[-1][1]
        self._cuts += [_Cut(end, end, glue + text) for text in texts]

    def _flow_texts(self, node: yaml.Node, added: Object | list[Any]) -> list[str]:
        if isinstance(added, list):
            return [self._flow(node, item) for item in added]
        colon = ": "
        return [
            f"{self._flow(node, name)}{colon}{self._flow(node, value)}"
            for name, value in added.items()
        ]

    def _block_members(
        self,
        node: yaml.Node,
        members: Sequence[tuple[yaml.Node, yaml.Node]],
        gone: Sequence[tuple[yaml.Node, yaml.Node]],
        added: Object | list[Any],
    ) -> None:
        for first, last in gone:
            self._cuts.append(self._lines(node, members, first, last))
        at = self._line_end(self._end(members[-1][1]))
        column = node.start_mark.column
        if isinstance(added, dict):
            texts: Iterable[str] = (_block({name: value}) for name, value in added.items())
        else:
            has_flow = any(self._is_flow(last) for _, last in members)
            texts = (f"- {_inline(item)}\n" if has_flow else _block([item]) for item in added)
        self._cuts += [_Cut(at, at, _indented(text, column)) for text in texts]

    def _lines(
        self,
        node: yaml.Node,
        members: Sequence[tuple[yaml.Node, yaml.Node]],
        first: yaml.Node,
        last: yaml.Node,
    ) -> _Cut:
        """The lines of a member of a block, with the comments right above it."""
        start = first.start_mark.index
        end = self._line_end(self._end(last))
        if isinstance(node, yaml.SequenceNode):
            start = self._text.rindex("-", 0, start)
        line = self._line_start(start)
        if self._text[line:start].strip():  # the first key right behind a dash
            following = next((f for f, _ in members if f.start_mark.index > start), None)
            if following is None:
                raise Invalid("", "is written in a way that cannot be changed", "edit it by hand")
            return _Cut(start, following.start_mark.index)
        indent = self._text[line:start]
        while line:
            above = self._line_start(line - 1)
            if not self._text[above:line].startswith(f"{indent}#"):
                break
            line = above
        return _Cut(line, end)

    def _line_start(self, index: int) -> int:
        return self._text.rfind("\n", 0, index) + 1

    def _line_end(self, index: int) -> int:
        return self._text.index("\n", index) + 1

    def _end(self, node: yaml.Node) -> int:
        """Where a value ends, without the lines and comments behind a block."""
        if not self._is_flow(node) and node.value:
            if isinstance(node, yaml.MappingNode):
                return self._end(node.value[-1][1])
            if isinstance(node, yaml.SequenceNode):
                return self._end(node.value[-1])
        start, end = node.start_mark.index, node.end_mark.index
        return start + len(self._text[start:end].rstrip())

    def _is_flow(self, node: yaml.Node) -> bool:
        is_scalar = isinstance(node, yaml.ScalarNode)
        return not is_scalar and self._text[node.start_mark.index] in "{["

    def _flow(self, node: yaml.Node, value: Any) -> str:
        """A value within `{}` or `[]`: as JSON where the text is JSON."""
        is_json = re.match(r'[{\[]\s*"', self._text[node.start_mark.index :])
        return json.dumps(value, ensure_ascii=False) if is_json else _inline(value)


def _name(item: Any) -> str:
    return str(item["name"]) if isinstance(item, dict) else str(item)


def _inline(value: Any) -> str:
    return _dump([value], flow=True).strip()[1:-1]


def _block(value: Any) -> str:
    return _dump(value, flow=False)


def _dump(value: Any, *, flow: bool) -> str:
    return str(
        yaml.dump(
            value,
            Dumper=_Dumper,
            default_flow_style=flow,
            sort_keys=False,
            allow_unicode=True,
            width=float("inf"),
        )
    )


def _indented(text: str, column: int) -> str:
    return "".join(f"{' ' * column}{line}" for line in text.splitlines(keepends=True))


def _ended(text: str) -> tuple[str, str]:
    """The text with an end of its last line, and what was added to it."""
    if not text or text.endswith("\n"):
        return text, "\0"
    end = "\r\n" if "\r\n" in text else "\n"
    return text + end, end

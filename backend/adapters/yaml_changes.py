"""Changes values in a YAML text, and not a character beside them. Pure.

PyYAML says where each value stands, and only those places are replaced: comments, order,
quotes and indentation of the rest stay as somebody wrote them.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import yaml

from backend.adapters.yaml_values import block, indented, inline
from extauthz.core.errors import Invalid
from extauthz.core.writing import Object, merge_patch

_JSON: Final = re.compile(r'[{\[\s]*"')
Member = tuple[yaml.Node, yaml.Node]  # key and value; of a list the item, twice


@dataclass(slots=True)
class _Cut:
    start: int
    end: int
    text: str = ""


class Changing:
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
        gone, added = list[Member](), Object()
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
        self._members(node, _pairs(node.value), [(item, item)], [])

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
                self._entry(key, node, new)
            else:
                self._put(node, inline(new))
        else:
            self._entry(key, node, new)

    def _put(self, node: yaml.Node, text: str) -> None:
        start, end = node.start_mark.index, node.end_mark.index
        self._cuts.append(_Cut(start, end, text if end > start else f" {text}"))

    def _entry(self, key: yaml.Node, node: yaml.Node, new: Any) -> None:
        text = indented(block({key.value: new}), key.start_mark.column).strip()
        self._cuts.append(_Cut(key.start_mark.index, self._end(node), text))

    def _sequence(self, node: yaml.SequenceNode, old: list[Any], new: list[Any]) -> None:
        """Keep the items that stay, whole lines with their comments."""
        there = dict(zip(map(_name, old), node.value, strict=False))
        before, wanted = ({_name(item): item for item in items} for items in (old, new))
        kept = {name: there[name] for name in there if name in wanted}
        in_order = [*kept, *(name for name in wanted if name not in there)]
        if in_order != [_name(item) for item in new] or len(there) != len(node.value):
            kept = {}  # they change places, or stand twice: all are written anew
        for name, item in kept.items():
            if wanted[name] != before[name]:
                self.mapping(item, before[name], wanted[name])
        gone = set(node.value).difference(kept.values())
        added = [item for item in new if _name(item) not in kept]
        self._members(node, _pairs(node.value), _pairs(gone), added)

    def _members(
        self,
        node: yaml.Node,
        members: Sequence[Member],
        gone: Sequence[Member],
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
        members: Sequence[Member],
        gone: Sequence[Member],
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
        return [
            f"{self._flow(node, name)}: {self._flow(node, value)}" for name, value in added.items()
        ]

    def _block_members(
        self,
        node: yaml.Node,
        members: Sequence[Member],
        gone: Sequence[Member],
        added: Object | list[Any],
    ) -> None:
        for first, last in gone:
            self._cuts.append(self._lines(node, members, first, last))
        at = self._line_end(self._end(members[-1][1]))
        begin = members[0][0].start_mark
        has_tag = isinstance(node, yaml.MappingNode) and begin.line > node.start_mark.line
        column = begin.column if has_tag else node.start_mark.column
        if isinstance(added, dict):
            texts: Iterable[str] = (block({name: value}) for name, value in added.items())
        else:
            has_flow = any(self._is_flow(last) for _, last in members)
            texts = (f"- {inline(item)}\n" if has_flow else block([item]) for item in added)
        self._cuts += [_Cut(at, at, indented(text, column)) for text in texts]

    def _lines(
        self,
        node: yaml.Node,
        members: Sequence[Member],
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
        inner = re.compile(rf"(?: {{{len(indent) + 1},}}#.*\n)*")
        within = inner.match(self._text, end)  # comments behind it that stand in it
        return _Cut(line, within.end() if within else end)

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
        is_json = _JSON.match(self._text, node.start_mark.index)
        return json.dumps(value, ensure_ascii=False) if is_json else inline(value)


def _name(item: Any) -> str:
    return str(item["name"]) if isinstance(item, dict) else str(item)


def _pairs(items: Iterable[yaml.Node]) -> list[Member]:
    return [(item, item) for item in items]

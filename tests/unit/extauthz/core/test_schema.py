"""The tables of custom resources and the code that reads them know the same."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from objects import grant, server, session

from extauthz.core.errors import Invalid
from extauthz.core.model import MCPServer
from extauthz.core.resources import parse_object
from extauthz.core.schema import KINDS
from extauthz.core.shapes import Flag, Items, Record, Shape, Text

BASES = {
    "MCPServer": server(auth={}, policy={}, session={}, tools=[{"name": "a"}]),
    "MCPAccessGrant": grant(toolRules=[{"name": "a"}]),
    "MCPAgentSession": session(),
}


def _defaults(shape: Shape, path: tuple[str | int, ...]) -> Iterator[tuple[Any, Any]]:
    """Where the API server writes something that was left out, and what."""
    match shape:
        case Record():
            for name, member in shape.members.items():
                yield from _defaults(member, (*path, name))
        case Items():
            yield from _defaults(shape.item, (*path, 0))
        case Text() if shape.default:
            yield path, shape.default
        case Flag() if shape.is_stored:
            yield path, False


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_the_readers(kind: str) -> None:
    """An object with the defaults that the API server writes says what it said without."""
    places = list(_defaults(KINDS[kind], ("spec",)))
    assert places
    for path, default in places:
        told = copy.deepcopy(BASES[kind])
        place = told
        for name in path[:-1]:
            place = place[name]
        assert path[-1] not in place
        place[path[-1]] = default
        assert parse_object(told) == parse_object(BASES[kind]), path


def test_a_text_has_a_bound() -> None:
    """A text beyond its bound is refused, as the API server does."""
    with pytest.raises(Invalid) as caught:
        parse_object(grant(subject={"agentID": "a" * 1025}))
    assert str(caught.value) == "spec.subject.agentID: is longer than 1024 characters; shorten it"


def test_a_list_has_a_bound() -> None:
    """A list beyond its bound is refused, as the API server does."""
    with pytest.raises(Invalid) as caught:
        parse_object(server(tools=[{"name": f"t{i}"} for i in range(1001)]))
    assert str(caught.value) == "spec.tools: has more than 1000 items; leave some out"


def test_labels_are_for_people() -> None:
    """White space around a label's value does not matter."""
    parsed = parse_object(server(tools=[{"name": "a", "labels": {"owner": " Jane "}}]))
    assert isinstance(parsed, MCPServer)
    assert parsed.tools[0].labels == (("owner", "Jane"),)

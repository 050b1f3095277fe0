"""Every field of the tables, with values of every kind: both take it, or both refuse it."""

import copy
import itertools
from collections.abc import Iterator
from typing import Any, Final

import pytest

from extauthz.core.errors import Invalid
from extauthz.core.resources import parse_object
from extauthz.core.schema import KINDS
from extauthz.core.shapes import Flag, Foreign, Items, Labels, Prose, Record, Shape, Text
from tests.cluster.cases import TAKEN
from tests.tools.kube_objects import Served
from tests.unit.extauthz.core.objects import grant, server, session

Path = tuple[str | int, ...]

# Objects with a place for every field, where one value is good whatever the others are.
BASES: Final = {
    "MCPServer": server(
        auth={"issuerURL": "https://issuer.example", "audience": "mcp", "claims": {}},
        policy={},
        session={},
        tools=[{"name": "add"}],
    ),
    "MCPAccessGrant": grant(maxTrust="high", toolRules=[{"name": "add"}]),
    "MCPAgentSession": session(),
}
ANYTHING: Final = (7, 1.5, True, "", "word", " word", ["word"], [7], [{}], {"word": "word"})
TEXTS: Final = (
    *("X-Header", "X_Header", "10.0.0.0/8", "10.0.0.0", "10.1.0.0/8", "24h", "1h30m", "24", "1d"),
    *("2026-12-31T23:59:59Z", "2026-12-31", "2026-12-31T23:59:59", "team-a", "Team A", "ä"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_same_verdict(served: Served, kind: str) -> None:
    """The API server refuses what `core.resources` refuses, and nothing else."""
    for path, value in _changes(KINDS[kind], ("spec",)):
        changed = _with(BASES[kind], path, value)
        error = _error(changed)
        if any(error == f"{case.field}: {case.sentence}" for case in TAKEN.values()):
            error = ""
        causes = served.causes(changed)
        assert bool(causes) == bool(error), f"{path} = {value!r}: {error or 'taken'}; {causes}"


def _error(value: Any) -> str:
    try:
        parse_object(value)
    except Invalid as error:
        return str(error)
    return ""


def _changes(shape: Shape, path: Path) -> Iterator[tuple[Path, Any]]:
    """Values to try at each place, good and bad ones."""
    match shape:
        case Foreign():
            return
        case Text():
            yield from ((path, choice) for choice in shape.choices)
            # An empty choice is unset in a file, and not taken by the API server: `test_rules`.
            values = (each for each in (*ANYTHING, *TEXTS) if each != "" or not shape.choices)
            yield from ((path, value) for value in values)
            yield from ((path, "x" * length) for length in (shape.most, shape.most + 1))
        case Prose() | Flag() | Labels():
            yield from ((path, value) for value in (*ANYTHING, False))
        case Record():
            yield from ((path, value) for value in ANYTHING if value != "")
            if not shape.is_open:
                yield (*path, "unheardOf"), "word"
            for name, member in shape.members.items():
                yield from _changes(member, (*path, name))
        case Items():
            yield from ((path, value) for value in (*ANYTHING, []) if value != "")
            one = {"name": "tool"} if isinstance(shape.item, Record) else "team-a"
            if not shape.key:
                yield path, [one] * (shape.most + 1)
            else:
                yield path, [one | {"name": f"t{i}"} for i in range(shape.most + 1)]
            yield from _changes(shape.item, (*path, 0))


def _with(base: Any, path: Path, value: Any) -> Any:
    """A copy with `value` at `path`; a list that is not there is made."""
    changed = copy.deepcopy(base)
    place = changed
    for name, following in itertools.pairwise(path):
        if isinstance(place, dict):
            place = place.setdefault(name, [None] if isinstance(following, int) else {})
        else:
            place = place[name]
    place[path[-1]] = value
    return changed

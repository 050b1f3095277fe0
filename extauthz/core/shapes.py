"""What tables of custom resources are made of (`schema`), and who looks at their bounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from extauthz.core.fields import Fields
from extauthz.core.rules import Rule

MOST_CHARACTERS: Final = 1024  # of an identity, a URL or a name; CEL's cost is bounded by it


@dataclass(frozen=True, slots=True)
class Text:
    """A string.

    Args:
        doc: what `kubectl explain` tells.
        choices: all that it may be; empty for any.
        default: written by the API server where the field is left out.
        rule: beyond `NO_SPACE`, which holds for all but prose.
        most: characters.
    """

    doc: str
    choices: tuple[str, ...] = ()
    default: str = ""
    rule: Rule | None = None
    most: int = MOST_CHARACTERS
    required: bool = False


@dataclass(frozen=True, slots=True)
class Prose:
    """Text for people, of any length."""

    doc: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean. Args: is_stored: the API server writes false where it is left out."""

    doc: str
    is_stored: bool = False
    required: bool = False


@dataclass(frozen=True, slots=True)
class Labels:
    """An object of strings."""

    doc: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Foreign:
    """A member of mcp-runtime's, kept as it is and read by nobody here."""

    doc: str = "mcp-runtime's own; kept as it is."
    required: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """An object.

    Args:
        is_open: other members are kept, as mcp-runtime may have more of them.

    Attributes:
        names: of the members.
        bounds: how long members may be, in characters or items.
    """

    doc: str
    members: Mapping[str, "Shape"]
    rules: tuple[Rule, ...] = ()
    is_open: bool = False
    required: bool = False
    names: frozenset[str] = field(init=False, repr=False)
    bounds: Mapping[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(self.members))
        bounds = {name: _most(shape) for name, shape in self.members.items()}
        object.__setattr__(self, "bounds", {name: most for name, most in bounds.items() if most})


@dataclass(frozen=True, slots=True)
class Items:
    """A list.

    Args:
        most: items.
        key: the member by which items differ, where they must.
    """

    doc: str
    item: "Text | Record"
    most: int
    rules: tuple[Rule, ...] = ()
    key: str = ""
    required: bool = False


Shape = Text | Prose | Flag | Labels | Foreign | Record | Items


def within(fields: Fields, record: Record) -> Fields:
    """The same fields, once they are the record's and within its bounds.

    Raises:
        Invalid: a member is not known (of an open record: looks mistyped), or too long.
    """
    if record.is_open:
        fields.no_typos(record.names)
    else:
        fields.only(record.names)
    for name in fields.names():
        if most := record.bounds.get(name):
            fields.bounded(name, most)
    return fields


def _most(shape: Shape) -> int:
    """Zero for what has no bound of its own."""
    if isinstance(shape, Items) or (isinstance(shape, Text) and not shape.choices):
        return shape.most
    return 0

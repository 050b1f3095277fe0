"""Parameters of requests, declared once: read strictly by them, described by them in OpenAPI."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from werkzeug.datastructures import MultiDict

from backend.api.refusals import bad_parameter
from backend.auth.principal import HeaderLookup
from extauthz.core.errors import Invalid
from extauthz.core.fields import nearest
from extauthz.core.times import parse_moment

T = TypeVar("T")
Parameters = MultiDict[str, str]

MOST_CHARACTERS: Final = 1024  # of a text; names in events have 256 bytes
DURATION_OR_TIME: Final = "an RFC 3339 time, or how long ago it was, such as `1h30m`"


class Place(StrEnum):
    """Where a parameter stands in a request."""

    QUERY = "query"
    PATH = "path"
    HEADER = "header"


@dataclass(frozen=True, slots=True, eq=False)
class Parameter(Generic[T]):
    """One parameter. A blank one counts as not given, as existing tools send them.

    Args:
        read: its value, of text that is not blank and the time now. Raises: Invalid.
        schema: JSON Schema of what is read.
        help: a sentence for people.
        default: its value where it is not given.
        aliases: other names that existing tools give it; the name itself comes first.
        exact: white space around it counts; else it is taken off before it is read.
        may_be_blank: False where a blank one is refused: who leaves it blank by mistake must
            not get what nobody asked for.
    """

    name: str
    read: Callable[[str, datetime], T]
    schema: Mapping[str, Any]
    help: str
    default: T
    place: Place = Place.QUERY
    aliases: tuple[str, ...] = ()
    exact: bool = False
    may_be_blank: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


@dataclass(frozen=True, slots=True)
class Given:
    """What a request gives, read.

    Args:
        now: when it came; aware.
        values: by parameter; those that are not given have their default.
        query: the query as it came.
    """

    now: datetime
    values: Mapping[Parameter[Any], Any]
    query: Parameters = field(default_factory=MultiDict)

    def __getitem__(self, parameter: Parameter[T]) -> T:
        value: T = self.values[parameter]
        return value


def read(
    parameters: Sequence[Parameter[Any]],
    query: Parameters,
    path: Mapping[str, str],
    now: datetime,
    headers: HeaderLookup | None = None,
) -> Given:
    """Read a request's parameters.

    Raises:
        Invalid: naming the one that is unknown, stands there twice, or cannot be read.
    """
    asked = [each for each in parameters if each.place is Place.QUERY]
    _only(query, frozenset(name for each in asked for name in each.names))
    values = {}
    for each in parameters:
        texts = {Place.QUERY: query, Place.PATH: path, Place.HEADER: headers or {}}[each.place]
        if not (each.may_be_blank or texts.get(each.name, "not given").strip()):
            raise bad_parameter(each.name, "is blank", "give it a value, or leave it out")
        given = [told for name in each.names if (told := texts.get(name, "")).strip()]
        if not each.exact:
            given = [told.strip() for told in given]
        # The first name counts, and what stands under the others must be readable, too.
        values[each] = next(iter([each.read(told, now) for told in given]), each.default)
    return Given(now, values, query)


def _only(query: Parameters, known: frozenset[str]) -> None:
    """A mistyped filter must not answer with everything."""
    for name, values in query.lists():
        if name not in known:
            near = nearest(name, known)
            listed = ", ".join(sorted(known)) or "none"
            mend = f"did you mean `{near}`?" if near else f"known: {listed}"
            raise bad_parameter(name[:64], "is not a known parameter", mend)
        if len(values) > 1:
            raise bad_parameter(name, "is given more than once", "give it once")


def text(name: str, help: str, *, aliases: Iterable[str] = ()) -> Parameter[str]:
    """Any text; empty when it is not given."""

    def read(given: str, _now: datetime) -> str:
        if len(given) > MOST_CHARACTERS:
            problem = f"has more than {MOST_CHARACTERS} characters"
            raise bad_parameter(name, problem, "nothing so long is ever found; shorten it")
        return given

    schema = {"type": "string", "maxLength": MOST_CHARACTERS}
    return Parameter(name, read, schema, help, "", aliases=tuple(aliases), exact=True)


def choice(name: str, choices: Sequence[str], help: str) -> Parameter[str]:
    """One of `choices`; empty when it is not given."""

    def read(given: str, _now: datetime) -> str:
        if given not in choices:
            listed = ", ".join(choices)
            raise bad_parameter(name, f"unknown value `{given[:64]}`", f"use one of {listed}")
        return given

    return Parameter(name, read, {"type": "string", "enum": ["", *choices]}, help, "")


def moment(name: str, help: str) -> Parameter[datetime | None]:
    """A time; None when it is not given."""

    def read(given: str, now: datetime) -> datetime | None:
        try:
            return datetime.fromtimestamp(parse_moment(given, name, now.timestamp()), UTC)
        except Invalid as error:
            raise bad_parameter(name, error.problem, error.mend) from None
        except (ValueError, OverflowError, OSError):
            raise bad_parameter(
                name, f"`{given[:64]}` is out of range", "write it like 1h"
            ) from None

    return Parameter(name, read, {"type": "string"}, f"{help}: {DURATION_OR_TIME}.", None)


def clamped(name: str, default: int, most: int, help: str) -> Parameter[int]:
    """A whole number, moved into [1, most]; what cannot be read counts as not given.

    So existing tools of mcp-runtime send it.
    """

    def read(given: str, _now: datetime) -> int:
        try:
            return max(1, min(most, int(given)))
        except ValueError:  # of thousands of digits, too
            return default

    said = f"{help}; moved into 1…{most}, {default} where it cannot be read."
    # Text is taken, too: generated clients must not refuse what existing tools send.
    schema = {"type": ["integer", "string"], "default": default}
    return Parameter(name, read, schema, said, default)


def count(name: str, default: int, most: int, help: str) -> Parameter[int]:
    """A whole number in [1, most], and nothing else."""

    def read(given: str, _now: datetime) -> int:
        whole = given.isascii() and given.isdigit() and len(given) < 10
        if not (whole and 1 <= int(given) <= most):
            problem = f"`{given[:64]}` is not a number from 1 to {most}"
            raise bad_parameter(name, problem, "write one of those")
        return int(given)

    return Parameter(name, read, whole_number(most) | {"default": default}, help, default)


def whole_number(most: int) -> dict[str, Any]:
    """The schema of one in [1, most]; a blank one is not given."""
    number = {"type": "integer", "minimum": 1, "maximum": most}
    return {"anyOf": [number, {"type": "string", "maxLength": 0}]}

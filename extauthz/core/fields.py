"""Reads typed members from parsed JSON or YAML; every error names the path and the mend."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from extauthz.core.errors import Invalid
from extauthz.core.rules import NO_SPACE
from extauthz.core.times import parse_duration, parse_instant


def nearest(name: str, known: frozenset[str], cutoff: float = 0.6) -> str:
    """The known name most like `name`; empty when none is close."""
    by_fold = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_fold, n=1, cutoff=cutoff)
    return by_fold[close[0]] if close else ""


class Fields:
    """One object of a document, and where it stands.

    Absent, null and empty strings all count as unset, as they do in Go.

    Args:
        value: must be an object.
        path: of the object itself, such as `spec.toolRules[0]`; empty for the root. Or the
            object around it, the list's name there, and the index.

    Raises:
        Invalid: where the value is not an object, or has a key that is not a string.
    """

    __slots__ = ("_place", "_value")

    def __init__(self, value: object, path: str | tuple["Fields", str, int] = "") -> None:
        self._place = path  # that of a list's item is written when somebody asks: hardly ever
        if type(value) is not dict and not isinstance(value, Mapping):
            raise Invalid(self.path, f"must be an object, not {_kind(value)}", "write its members")
        for key in value:
            if type(key) is not str and not isinstance(key, str):
                raise Invalid(self.path, f"key `{key}` is not a string", "quote it")
        self._value: Mapping[str, Any] = value

    @property
    def path(self) -> str:
        """Where the object stands."""
        if isinstance(self._place, str):
            return self._place
        parent, name, index = self._place
        return f"{parent.at(name)}[{index}]"

    def at(self, name: str) -> str:
        """The path of member `name`."""
        return f"{self.path}.{name}" if self.path else name

    def names(self) -> Iterator[str]:
        """The members that are there, whatever they hold."""
        return iter(self._value)

    def only(self, known: frozenset[str]) -> Self:
        """Refuse members that are not `known`: a mistyped limit must not vanish."""
        for name in self._value:
            if name not in known:
                near = nearest(name, known)
                mend = f"did you mean `{near}`?" if near else f"known: {', '.join(sorted(known))}"
                raise Invalid(self.at(name), "is not a known field", mend)
        return self

    def no_typos(self, known: frozenset[str]) -> Self:
        """Refuse only members that look like a mistyped known one; others are not ours."""
        for name in self._value:
            if name not in known and (near := nearest(name, known, 0.85)):
                raise Invalid(
                    self.at(name), "is not a known field", f"did you mean `{near}`? rename it"
                )
        return self

    def text(self, name: str, default: str = "") -> str:
        """A string without surrounding white space."""
        value = self._value.get(name)
        if value is None or value == "":
            return default
        if not isinstance(value, str):
            raise Invalid(self.at(name), f"must be a string, not {_kind(value)}", "quote it")
        if value != value.strip():
            raise NO_SPACE.refusal(self.at(name))
        return value

    def required_text(self, name: str) -> str:
        """A string that must be there."""
        value = self.text(name)
        if not value:
            raise Invalid(self.at(name), "is required", f"set `{name}`")
        return value

    def prose(self, name: str) -> str:
        """Text for people; white space around it does not matter."""
        value = self._value.get(name)
        return value.strip() if isinstance(value, str) else self.text(name)

    def choice(self, name: str, choices: tuple[str, ...], default: str = "") -> str:
        """One of `choices`, exactly as written there."""
        value = self.text(name, default)
        if value and value not in choices:
            raise Invalid(self.at(name), f"unknown value `{value}`", f"use {_or(choices)}")
        return value

    def flag(self, name: str) -> bool:
        """A boolean; unset is false."""
        value = self._value.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise Invalid(
                self.at(name), f"must be true or false, not {_kind(value)}", "write it unquoted"
            )
        return value

    def instant(self, name: str) -> str:
        """An RFC 3339 time, as written; empty when unset."""
        value = self.text(name)
        if value:
            self._check(parse_instant, name, value)
        return value

    def duration(self, name: str) -> str:
        """A duration such as `24h`, as written; empty when unset."""
        value = self.text(name)
        if value:
            self._check(parse_duration, name, value)
        return value

    def object(self, name: str) -> "Fields":
        """A nested object; unset reads as an empty one."""
        value = self._value.get(name)
        return Fields({} if value is None else value, self.at(name))

    def objects(self, name: str) -> list["Fields"]:
        """A list of objects; unset reads as an empty one."""
        return [Fields(item, (self, name, i)) for i, item in enumerate(self._list(name))]

    def texts(self, name: str, choices: tuple[str, ...] = ()) -> tuple[str, ...]:
        """A list of non-empty strings, each one of `choices` where they are given."""
        found = []
        for i, item in enumerate(self._list(name)):
            if not isinstance(item, str) or not item.strip():
                where = f"{self.at(name)}[{i}]"
                raise Invalid(where, "must be a non-empty string", "write a value or remove it")
            if choices and item not in choices:
                where = f"{self.at(name)}[{i}]"
                raise Invalid(where, f"unknown value `{item}`", f"use {_or(choices)}")
            found.append(item)
        return tuple(found)

    def text_map(self, name: str) -> dict[str, str]:
        """An object of strings, such as labels; white space around them does not matter."""
        fields = self.object(name)
        return {key: fields.prose(key) for key in fields.names()}

    def bounded(self, name: str, most: int) -> None:
        """Refuse a string or a list that is longer than `most`."""
        value = self._value.get(name)
        if isinstance(value, str) and len(value) > most:
            raise Invalid(self.at(name), f"is longer than {most} characters", "shorten it")
        if isinstance(value, list) and len(value) > most:
            raise Invalid(self.at(name), f"has more than {most} items", "leave some out")

    def has(self, name: str) -> bool:
        """True where the member stands there and is not null."""
        return self._value.get(name) is not None

    def _check(self, parse: Callable[[str, str], float], name: str, value: str) -> None:
        """Parse, and only where that fails find out where `value` stands."""
        try:
            parse(value, "")
        except Invalid:
            parse(value, self.at(name))

    def _list(self, name: str) -> list[Any]:
        value = self._value.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise Invalid(self.at(name), f"must be a list, not {_kind(value)}", "write a list")
        return value


def _or(choices: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))


def _kind(value: object) -> str:
    """What JSON calls the value's type."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    names |= {list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), type(value).__name__)

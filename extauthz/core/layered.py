"""A large dictionary that is changed a little, without a copy of all of it."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")
_MOST: Final = 500  # changes beside the large one; more are put into a copy of it
_ABSENT: Final = object()


class Layered(Mapping[K, V], Generic[K, V]):
    """A dictionary with changes over it; neither is changed itself.

    Args:
        under: shared with the values before.
        over: what differs; None for what is gone.
    """

    __slots__ = ("_over", "_under")

    def __init__(self, under: dict[K, V], over: dict[K, V | None]) -> None:
        self._under, self._over = under, over

    def get(self, key: K, default: Any = None) -> Any:
        """As of a dictionary."""
        found = self._over.get(key, _ABSENT)
        if found is _ABSENT:
            return self._under.get(key, default)
        return default if found is None else found

    def __getitem__(self, key: K) -> V:
        found: V | None = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[K]:
        yield from (key for key in self._under if key not in self._over)
        yield from (key for key, value in self._over.items() if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]  # as of a dictionary

    @property
    def parts(self) -> tuple[dict[K, V], dict[K, V | None]]:
        """The two dictionaries that it is made of."""
        return self._under, self._over

    def whole(self) -> dict[K, V]:
        """All of it in one dictionary."""
        merged: dict[K, Any] = self._under | self._over
        for key, value in self._over.items():
            if value is None:
                del merged[key]
        return merged

    def changed(self, changes: Mapping[K, V | None]) -> "Layered[K, V]":
        """Another one, with these over it."""
        over = {**self._over, **changes}
        if len(over) <= _MOST:
            return Layered(self._under, over)
        return Layered(Layered(self._under, over).whole(), {})


def changed(index: Mapping[K, V], changes: Mapping[K, V | None]) -> Mapping[K, V]:
    """An index with changes; None takes a key away. The index itself stays as it is."""
    if not changes:
        return index
    if isinstance(index, Layered):
        return index.changed(changes)
    assert isinstance(index, dict)
    return Layered(index, {}).changed(changes)

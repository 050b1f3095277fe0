"""Which replica tells the history of a change: the one that leads, then or next. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from backend.ports.control_plane import Standing
from extauthz.core.governance import Key

Recorded = Callable[[Standing | None, Standing | None], None]

MOST_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Kept:
    """Args: at: seconds; before: as it was before the first change that is kept."""

    at: float
    before: Standing
    after: Standing | None


class Records:
    """Passes changes on while this replica leads; keeps those that a leader may not have told.

    Args:
        record: tells one: the object before and after.
        keep_seconds: longer than nobody leads.
        monotonic: seconds.
    """

    def __init__(
        self, record: Recorded, *, keep_seconds: float, monotonic: Callable[[], float]
    ) -> None:
        self._record, self._keep_seconds, self._monotonic = record, keep_seconds, monotonic
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()

    def note(self, before: Standing | None, after: Standing | None, *, leads: bool) -> None:
        """An object changed."""
        if leads:
            self._record(before, after)
        elif before is not None:
            known = self._kept.pop(before.key, None)
            now = self._monotonic()
            self._kept[before.key] = _Kept(now, known.before if known else before, after)
            oldest = next(iter(self._kept.values()))
            if len(self._kept) > MOST_KEPT or oldest.at < now - self._keep_seconds:
                self._kept.popitem(last=False)

    def take_over(self, standings: Iterable[Standing]) -> None:
        """This replica leads from now on: tell what the one before it has not.

        A deletion may be told twice: nothing is left to say that it was.

        Args:
            standings: all objects; a status that speaks of its generation was told.
        """
        since = self._monotonic() - self._keep_seconds
        kept = {key: each for key, each in self._kept.items() if each.at >= since}
        self._kept.clear()
        for each in kept.values():
            if each.after is None:
                self._record(each.before, None)
        for standing in standings:
            if not any(c.generation == standing.generation for c in standing.conditions):
                known = kept.get(standing.key)
                self._record(known.before if known else None, standing)

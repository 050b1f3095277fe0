"""What is asked of events, as conditions in SQL; every value goes as a parameter."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from backend.ports.event_store import EVENT_TIMES_END
from backend.queries import FILTER_TEXTS, Cursor, EventFilter
from extauthz.core.events import EventType

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

# Columns of hashes that projections find ids by; both conditions are needed.
_HASHES: Final = {"request_id": "request_hash", "trace_id": "trace_hash"}

# The key of the table is not found in a comparison of tuples.
_BEYOND: Final = (
    "event_time {compared}= fromUnixTimestamp64Milli({{{name}_at:Int64}})"
    " AND (event_time {compared} fromUnixTimestamp64Milli({{{name}_at:Int64}})"
    " OR event_id {id_compared} {{{name}_id:UUID}})"
)


@dataclass(slots=True)
class Conditions:
    """A WHERE clause in the making.

    Attributes:
        given: parameters of the query, by name.
    """

    parts: list[str] = field(default_factory=list)
    given: dict[str, Any] = field(default_factory=dict)

    def add(self, condition: str, **given: Any) -> None:
        self.parts.append(condition)
        self.given |= given

    def texts(self, asked: EventFilter, names: Iterable[str] = FILTER_TEXTS) -> None:
        """Those that are asked for."""
        for name in names:
            if text := getattr(asked, name):
                self.add(f"{name} = {{{name}:String}}", **{name: text})
                if name in _HASHES:
                    self.add(f"{_HASHES[name]} = bitAnd(sipHash64({{{name}:String}}), 4194303)")

    def within(self, namespaces: frozenset[str] | None) -> None:
        if namespaces is not None:
            self.add("namespace IN {within:Array(String)}", within=sorted(namespaces))

    def times(self, asked: EventFilter, prefix: str = "") -> None:
        """Args: prefix: of the parameters' names."""
        for name, compared in (("since", ">="), ("until", "<")):
            if (at := getattr(asked, name)) is not None:
                given = prefix + name
                self.add(
                    f"event_time {compared} fromUnixTimestamp64Milli({{{given}:Int64}})",
                    **{given: ms(at)},
                )

    def after(self, cursor: Cursor) -> None:
        """Behind it, newest first."""
        self.add(
            _BEYOND.format(name="after", compared="<", id_compared="<"), **_given("after", cursor)
        )

    def until(self, cursor: Cursor) -> None:
        """Up to it, newest first, with all that have its time and id."""
        self.add(
            _BEYOND.format(name="edge", compared=">", id_compared=">="), **_given("edge", cursor)
        )

    @property
    def sql(self) -> str:
        return " AND ".join(self.parts) or "1"


def conditions(asked: EventFilter) -> Conditions:
    """Those of a filter; outcomes are no events of their own unless they are asked for."""
    found = Conditions()
    found.times(asked)
    found.texts(asked)
    found.within(asked.within)
    if not asked.event_type:
        found.add(f"event_type != '{EventType.RESPONSE}'")
    return found


def ms(moment: datetime) -> int:
    """Since the epoch, rounded up: events have whole ones. Within what the store can tell."""
    return min(max(0, -((_EPOCH - moment) // _MILLISECOND)), EVENT_TIMES_END * 1000)


def _given(name: str, cursor: Cursor) -> dict[str, Any]:
    return {f"{name}_at": ms(cursor.event_time), f"{name}_id": cursor.event_id}

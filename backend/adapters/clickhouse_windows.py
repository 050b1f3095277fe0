"""Windows of time, as whole steps, which projections sum up, and what is left at both ends."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from backend.adapters.clickhouse_filter import Conditions, ms
from backend.queries import EventFilter

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Step:
    """What projections sum events up by.

    Args:
        function: of the store, that makes of a time the beginning of its step.
    """

    function: str
    length: timedelta

    def floor(self, at: datetime) -> datetime:
        return at - (at - _EPOCH) % self.length

    def ceiling(self, at: datetime) -> datetime:
        return at + (_EPOCH - at) % self.length


DAY: Final = Step("toDate", timedelta(days=1))
HOUR: Final = Step("toStartOfHour", timedelta(hours=1))


def is_whole(asked: EventFilter, step: Step) -> bool:
    """Whether the window begins and ends where steps do."""
    return all(at is None or step.floor(at) == at for at in (asked.since, asked.until))


def parts_of(asked: EventFilter, step: Step) -> tuple[list[str], dict[str, Any]]:
    """The window as conditions, of which no two hold for the same event, and their parameters."""
    since, until = asked.since, asked.until
    first = since and step.ceiling(since)
    end = until and step.floor(until)
    if first and end and first >= end:  # nothing is whole
        found = Conditions()
        found.times(asked)
        return [found.sql], found.given
    whole = Conditions()
    for name, compared, at in (("first", ">=", first), ("end", "<", end)):
        if at:
            bound = f"{step.function}(toDateTime({{{name}:UInt32}}, 'UTC'))"
            whole.add(f"{step.function}(event_time) {compared} {bound}", **{name: ms(at) // 1000})
    parts, given = [whole.sql], whole.given
    for name, begin, finish in (("head_", since, first), ("tail_", end, until)):
        if begin != finish:
            rest = Conditions()
            rest.times(EventFilter(since=begin, until=finish), name)
            parts.append(rest.sql)
            given |= rest.given
    return parts, given

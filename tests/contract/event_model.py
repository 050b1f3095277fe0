"""The api's questions, answered naively in Python, and events and filters to ask them of."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from hypothesis import strategies as st
from msgspec import structs

from backend.ports.event_store import StoredEvent
from backend.queries import FILTER_TEXTS, EventFilter
from extauthz.core.events import INTERNAL_TYPES
from tests.contract.stored_events import DAY, NOON, event

FEW = st.sampled_from(["", "a", "b"])
TYPES = st.sampled_from(["mcp.request", "mcp.request", "mcp.response", "audit.gap", "own"])
TIMES = st.builds(
    lambda days, ms: NOON + days * DAY + timedelta(milliseconds=ms),
    st.sampled_from([0, 0, 0, -1, 1]),
    st.integers(0, 4),
)
# Column by which the events of one example are told from those of all others.
MARK = "cluster"
_VARIED = sorted({*FILTER_TEXTS, "declared_tool"} - {MARK, "event_type"})


def order(found: StoredEvent) -> tuple[datetime, int]:
    """Ascending, as the store has it: of an id its second half counts first."""
    number = UUID(found.event_id).int
    return found.event_time, (number & (1 << 64) - 1) << 64 | number >> 64


@st.composite
def stored(draw: st.DrawFn) -> StoredEvent:
    """An event without a mark; only few ids, so that producers share them."""
    texts = {name: draw(FEW) for name in _VARIED}
    return structs.replace(
        event(UUID(int=7), 1),
        event_time=draw(TIMES),
        event_id=str(UUID(int=draw(st.integers(0, 7)) << 100 | 1)),
        event_type=draw(TYPES),
        **texts,
    )


@st.composite
def filters(draw: st.DrawFn) -> EventFilter:
    names = draw(st.lists(st.sampled_from(_VARIED[1:]), max_size=3))
    texts = {name: draw(FEW) for name in names if name != "declared_tool"}
    return EventFilter(
        **texts,
        event_type=draw(st.one_of(st.just(""), TYPES)),
        since=draw(st.none() | TIMES),
        until=draw(st.none() | TIMES),
        within=draw(st.none() | st.frozensets(FEW, max_size=2)),
    )


def marked(events: Iterable[StoredEvent]) -> tuple[str, list[StoredEvent]]:
    """The same, told from all others by a mark; one producer sends each id but once."""
    mark, topic = uuid4().hex, uuid4()
    unique = {(each.producer, each.event_id): each for each in events}
    return mark, [
        structs.replace(each, cluster=mark, topic_id=topic, log_offset=offset)
        for offset, each in enumerate(unique.values())
    ]


def matching(events: Iterable[StoredEvent], asked: EventFilter) -> list[StoredEvent]:
    """What a filter finds, newest first."""
    return sorted((e for e in events if _matches(e, asked)), key=order, reverse=True)


def _matches(found: StoredEvent, asked: EventFilter) -> bool:
    return (
        all(getattr(asked, name) in ("", getattr(found, name)) for name in FILTER_TEXTS)
        and (bool(asked.event_type) or found.event_type != "mcp.response")
        and (asked.since is None or found.event_time >= asked.since)
        and (asked.until is None or found.event_time < asked.until)
        and (asked.within is None or found.namespace in asked.within)
    )


def is_call(found: StoredEvent) -> bool:
    """Whether statistics count it."""
    return found.event_type not in {event_type.value for event_type in INTERNAL_TYPES}


def grouped(
    events: Sequence[StoredEvent], key: Callable[[StoredEvent], Any]
) -> dict[Any, list[StoredEvent]]:
    by: dict[Any, list[StoredEvent]] = defaultdict(list)
    for each in events:
        by[key(each)].append(each)
    return by


def decided(events: Sequence[StoredEvent]) -> Counter[str]:
    return Counter(each.decision for each in events)


def unique(events: Sequence[StoredEvent], *names: str) -> int:
    """How many different values, those with an empty last one left out."""
    values = {tuple(getattr(each, name) for name in names) for each in events}
    return sum(bool(value[-1]) for value in values)

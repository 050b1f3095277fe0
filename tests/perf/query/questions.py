"""What dashboards and people ask, each with arguments drawn at random from what is stored."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from backend.adapters.clickhouse_events import EventQueries
from backend.adapters.clickhouse_readers import Readers
from backend.adapters.clickhouse_usage import UsageQueries
from backend.api.cursors import written
from backend.ports.event_store import StoredEvent
from backend.queries import CountedBy, Cursor, EventFilter
from extauthz.core.times import format_instant
from tests.perf.query.dataset import Dataset, today

LIMIT = 100
SAMPLES = 200
WINDOW_DAYS = 30  # as usage asks by default


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its arguments.

    Args:
        path: of the api.
        ask: the same of the store's adapter.
    """

    path: str
    ask: Callable[[Readers], object]


Question = Callable[["Sample"], Asked]


@dataclass(frozen=True, slots=True)
class Sample:
    """What arguments are drawn from.

    Args:
        events: calls of random times.
    """

    data: Dataset
    events: Sequence[StoredEvent]
    dice: random.Random

    @property
    def event(self) -> StoredEvent:
        return self.dice.choice(self.events)


def sample(readers: Readers, data: Dataset, dice: random.Random) -> Sample:
    queries, found = EventQueries(readers), []
    while len(found) < SAMPLES:
        until = data.begin + (data.end - data.begin) * dice.random()
        page = queries.page(EventFilter(event_type="mcp.request", until=until), 10)
        found += page.events
    return Sample(data, found, dice)


def _page(asked: EventFilter, after: Cursor | None = None, **query: str) -> Asked:
    words = {"limit": str(LIMIT), **query}
    if after:
        words["cursor"] = written(after)
    return Asked(
        f"/api/events/filter?{urlencode(words)}",
        lambda readers: EventQueries(readers).page(asked, LIMIT, after),
    )


def _filter(**texts: str) -> Asked:
    return _page(EventFilter(**texts), **texts)


def _by(*names: str) -> Question:
    """The newest events that are like some event in these."""

    def question(sample: Sample) -> Asked:
        event = sample.event
        return _filter(**{name: getattr(event, name) for name in names if getattr(event, name)})

    return question


def _behind(sample: Sample) -> Asked:
    event = sample.event
    return _page(EventFilter(), Cursor(event.event_time, event.event_id))


def _until(sample: Sample) -> Asked:
    at = sample.event.event_time
    return _page(EventFilter(until=at), until=format_instant(at.timestamp()))


def _between(sample: Sample) -> Asked:
    """An hour of an agent's calls."""
    event = sample.event
    since, until = event.event_time - timedelta(minutes=59), event.event_time + timedelta(minutes=1)
    times = {n: format_instant(at.timestamp()) for n, at in (("since", since), ("until", until))}
    texts = {"agent_id": event.agent_id} if event.agent_id else {}
    return _page(EventFilter(since=since, until=until, **texts), None, **times, **texts)


def _window(sample: Sample) -> Asked:
    """The last six hours, to the second: nothing of it is a whole day."""
    since = sample.data.end - timedelta(hours=6)
    seconds = int((datetime.now(UTC) - since).total_seconds())
    return _used(EventFilter(since=since), window=f"{seconds}s")


def _used(asked: EventFilter, **words: str) -> Asked:
    def ask(readers: Readers) -> object:
        used = UsageQueries(readers).usage(asked, 10)
        return used, EventQueries(readers).page(asked, 10)  # as the api asks both

    return Asked(f"/api/analytics/usage?{urlencode(words)}", ask)


def _event(sample: Sample) -> Asked:
    event_id = sample.event.event_id
    return Asked(f"/api/events/{event_id}", lambda r: EventQueries(r).by_id(event_id))


def _counts(field: CountedBy, path: str) -> Question:
    return lambda _: Asked(path, lambda readers: EventQueries(readers).counts_by(field))


def _summary(path: str) -> Question:
    return lambda _: Asked(path, lambda readers: EventQueries(readers).summary())


def _usage(days: int, *names: str) -> Question:
    """The last days that were loaded."""

    def question(sample: Sample) -> Asked:
        event, end = sample.event, sample.data.end
        texts = {name: text for name in names if (text := getattr(event, name))}
        back = days + (today() - end).days
        asked = EventFilter(since=end - timedelta(days=days), **texts)
        return _used(asked, window_days=str(back), **texts)

    return question


QUESTIONS: dict[str, Question] = {
    "newest events": lambda _: _page(EventFilter()),
    "a page behind a cursor": _behind,
    "until some time": _until,
    "an agent's hour": _between,
    "by producer": lambda sample: _filter(producer=sample.event.producer),
    "by server": _by("server"),
    "by namespace": _by("namespace"),
    "by cluster": _by("cluster"),
    "by team": _by("team_id"),
    "by human": _by("human_id"),
    "by agent": _by("agent_id"),
    "by session": _by("session_id"),
    "by tool": _by("tool_name"),
    "denied": lambda _: _filter(decision="deny"),
    "by reason": lambda sample: _filter(reason=sample.dice.choice(("trust_too_low", "allowed"))),
    "by source": lambda _: _filter(source="mcp-proxy"),
    "a rare type": lambda _: _filter(event_type="governance.change"),
    "denied on a server": lambda sample: _filter(decision="deny", server=sample.event.server),
    "a human's calls of a tool": _by("human_id", "tool_name"),
    "of nobody": lambda sample: _filter(human_id=f"nobody-{sample.dice.random()}"),
    "one event by its id": _event,
    "one request": _by("request_id"),
    "one trace": _by("trace_id"),
    "stats": _summary("/api/stats"),
    "sources": _counts(CountedBy.SOURCE, "/api/sources"),
    "event types": _counts(CountedBy.EVENT_TYPE, "/api/event-types"),
    "dashboard summary": _summary("/api/dashboard/summary"),
    "usage of six hours": _window,
    "usage of a day": _usage(1),
    "usage of 30 days": _usage(30),
    "usage of a server": _usage(30, "server"),
    "usage of a team": _usage(30, "team_id"),
    "usage of a namespace": _usage(30, "namespace"),
    "usage of a human": _usage(30, "human_id"),
    "usage of a tool": _usage(30, "tool_name"),
}


def drawn(question: Question, sample: Sample, count: int) -> list[Asked]:
    """So many, with other arguments each."""
    return [question(replace(sample)) for _ in range(count)]

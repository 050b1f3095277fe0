"""Whether statistics and ids are answered from projections, so whatever the table's size."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from backend.adapters.clickhouse_client import Server
from backend.adapters.clickhouse_events import EventQueries
from backend.adapters.clickhouse_grants import grant_use
from backend.adapters.clickhouse_readers import Readers
from backend.adapters.clickhouse_store import ClickHouseStore
from backend.adapters.clickhouse_usage import UsageQueries
from backend.queries import CountedBy, EventFilter
from tests.contract.stored_events import DAY, NOON, event

MIDNIGHT = NOON - timedelta(hours=12)


class Forcing(Readers):
    """Fails where a sum, or the time of an id, comes from the rows themselves."""

    def rows(
        self, sql: str, given: Mapping[str, Any], settings: Mapping[str, str] | None = None
    ) -> Sequence[Sequence[Any]]:
        if any(words in sql for words in ("GROUP BY", "count()", "_hash")):
            plan = super().rows(f"EXPLAIN projections = 1 {sql}", given, settings)
            text = "\n".join(str(line) for (line,) in plan)
            assert "(mcp.events)" not in text or "Name: by_" in text, text
        return super().rows(sql, given, settings)


@pytest.fixture
def readers(tmp_path: Path) -> Iterator[Readers]:
    """Of a store that holds some thousand calls."""
    url, topic = f"chdb://{tmp_path / 'store'}", uuid4()
    store = ClickHouseStore(url)
    store.migrate()
    for day in range(2):
        store.insert(
            [
                event(
                    topic,
                    n,
                    event_id=str(uuid4()),
                    event_time=MIDNIGHT + day * DAY + timedelta(seconds=n),
                    server=f"s{n % 3}",
                    human_id=f"h{n % 5}",
                    agent_id=f"a{n % 2}",
                    declared_tool="t",
                    request_id=f"r{n}",
                    trace_id=f"t{n}",
                    decision="allow",
                )
                for n in range(3000)
            ]
        )
    forcing = Forcing(Server(url, ""))
    yield forcing
    forcing.close()
    store.close()


def test_counts_and_the_summary_read_days(readers: Readers) -> None:
    """Of all namespaces, and of some."""
    queries = EventQueries(readers)
    for field in CountedBy:
        queries.counts_by(field)
        queries.counts_by(field, frozenset({""}))
    assert queries.summary().events == 6000


def test_usage_reads_days(readers: Readers) -> None:
    """With each of its filters, and without one, in whole days."""
    queries = UsageQueries(readers)
    filters = {"decision": "allow", "tool_name": "t", "server": "s1", "human_id": "h1"}
    for texts in ({}, *({name: text} for name, text in filters.items()), filters):
        assert queries.usage(EventFilter(since=MIDNIGHT, **texts), 10).totals.events
    assert queries.usage(EventFilter(since=MIDNIGHT, agent_id="a1"), 10).totals.events
    assert queries.usage(EventFilter(since=MIDNIGHT, within=frozenset({""})), 10).totals.events


@pytest.mark.parametrize("name", ["request_id", "trace_id"])
def test_ids_are_looked_up(readers: Readers, name: str) -> None:
    """By their hashes, in a projection that is ordered by them."""
    page = EventQueries(readers).page(EventFilter(**{name: f"{name[0]}7"}), 10)
    assert len(page.events) == 2


def test_grants_read_days(readers: Readers) -> None:
    """The earliest event, too, is known without reading any."""
    assert grant_use(readers, MIDNIGHT).stored_since == MIDNIGHT

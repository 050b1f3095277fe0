"""Which copies are remembered."""

from datetime import UTC, datetime
from uuid import UUID

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.ports.event_store import StoredEvent
from backend.processor.copies import Copies
from tests.tools.event_ids import id_of, name_of

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def event(name: str, *, resent: bool = False, event_time: datetime = NOON) -> StoredEvent:
    return StoredEvent(
        event_time=event_time,
        event_id=id_of(name),
        source="s",
        event_type="t",
        payload="{}",
        topic_id=UUID(int=1),
        log_partition=0,
        log_offset=0,
        resent=resent,
    )


def kept(copies: Copies, *names: str) -> list[str]:
    return [name_of(row.event_id) for row in copies.without([event(name) for name in names], set())]


def test_only_the_latest_are_remembered(store: ClickHouseStore) -> None:
    """Memory is bounded: the oldest id is forgotten for a new one."""
    copies = Copies(store, most=2)
    copies.remember([event(name, resent=True) for name in ("a", "b", "a", "c")])
    assert kept(copies, "a", "b", "c") == ["b"]
    copies.forget()
    assert kept(copies, "a", "b", "c") == ["a", "b", "c"]


def test_unmarked_events_are_not_remembered(store: ClickHouseStore) -> None:
    """Nothing says that the second one of them is the same event."""
    copies = Copies(store)
    copies.remember([event("a")])
    assert kept(copies, "a") == ["a"]


def test_what_is_stored_is_recalled_within_its_window(store: ClickHouseStore) -> None:
    """A day of copies is learnt from the store, and those that are old are not."""
    old = NOON.replace(day=20)
    store.insert([event("old", resent=True, event_time=old), event("new", resent=True)])
    copies = Copies(store)
    copies.recall(UUID(int=1), 0, NOON)
    assert kept(copies, "old", "new") == ["old"]

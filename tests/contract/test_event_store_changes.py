"""What every EventStore tells of the history of custom resources."""

import json
from datetime import timedelta
from uuid import UUID

import pytest
from stored_events import NOON, event

from backend.ports.event_store import EventStore, StoredEvent

SECOND = timedelta(seconds=1)


def change(
    topic: UUID,
    offset: int,
    name: str,
    *,
    about: str = "shop",
    kind: str = "MCPAccessGrant",
    namespace: str = "ns",
    at: int | None = None,
) -> StoredEvent:
    payload = json.dumps({"kind": kind, "namespace": namespace, "name": name, "server": about})
    return event(
        topic,
        offset,
        event_time=NOON + SECOND * (offset if at is None else at),
        event_type="governance.change",
        server=about,
        namespace=namespace,
        payload=payload,
    )


def offsets(events: object) -> list[int]:
    return sorted(each.log_offset for each in events)  # type: ignore[attr-defined]


def test_of_each_object_the_last_change_until_then_counts(store: EventStore, topic: UUID) -> None:
    """Kind, namespace and name tell objects apart; other events are none."""
    store.insert(
        [
            change(topic, 1, "a"),
            change(topic, 2, "a"),
            change(topic, 3, "a"),
            change(topic, 4, "a", namespace="other"),
            change(topic, 5, "a", kind="MCPAgentSession"),
            event(topic, 6),
        ]
    )
    assert offsets(store.changes(NOON + SECOND * 9)) == [3, 4, 5]
    assert offsets(store.changes(NOON + SECOND * 2)) == [2, 4, 5]


def test_else_the_first_change_after_it_counts(store: EventStore, topic: UUID) -> None:
    """So that what an object was before it is known as well."""
    store.insert([change(topic, 3, "a"), change(topic, 4, "a"), change(topic, 1, "b")])
    assert offsets(store.changes(NOON + SECOND * 2)) == [1, 3]


@pytest.mark.parametrize(("at", "expected"), [(1, 3), (0, 1)])
def test_changes_of_one_moment_are_in_the_order_of_the_log(
    store: EventStore, topic: UUID, at: int, expected: int
) -> None:
    """Until then the last of them counts, after it the first."""
    store.insert([change(topic, offset, "a", at=1) for offset in (2, 1, 3)])
    assert offsets(store.changes(NOON + SECOND * at)) == [expected]


def test_an_object_that_left_a_server_is_not_its_own_any_more(
    store: EventStore, topic: UUID
) -> None:
    """Asked for a server, the last change counts, also where it is about another one."""
    store.insert(
        [
            change(topic, 1, "a"),
            change(topic, 2, "a", about="bank"),
            change(topic, 3, "b"),
            change(topic, 4, "c", about="bank"),
        ]
    )
    assert offsets(store.changes(NOON + SECOND * 9, "shop")) == [2, 3]

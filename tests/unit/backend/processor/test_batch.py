"""When a batch is due."""

from uuid import UUID

from backend.ports.event_log import Position, Record
from backend.processor.batch import Batcher


def record(size: int = 1) -> Record:
    return Record(Position(UUID(int=1), 0, 1), b"x" * size)


def batcher() -> Batcher:
    return Batcher(max_events=3, max_bytes=100, flush_seconds=2)


def test_an_empty_batch_is_never_due() -> None:
    """Nothing to insert, however long it waits."""
    batch = batcher()
    assert not batch.is_due(1e9)
    assert batch.due_in(1e9) == 2


def test_a_full_batch_is_due() -> None:
    """By number of events; there is no room then."""
    batch = batcher()
    for left in (2, 1, 0):
        assert not batch.is_due(0)
        batch.add([record()], 0)
        assert batch.room == left
    assert batch.is_due(0)


def test_a_heavy_batch_is_due() -> None:
    """By bytes."""
    batch = batcher()
    batch.add([record(99)], 0)
    assert not batch.is_due(0)
    batch.add([record(1)], 0)
    assert batch.is_due(0)


def test_an_old_batch_is_due() -> None:
    """By the age of its oldest record, not of the last."""
    batch = batcher()
    batch.add([record()], 10)
    batch.add([record()], 11.9)
    assert not batch.is_due(11.9)
    assert batch.is_due(12)


def test_taking_starts_anew() -> None:
    """What is handed out is gone, its age and its bytes too."""
    batch = batcher()
    batch.add([record(100)], 0)
    assert len(batch.take()) == 1
    assert (len(batch), batch.room) == (0, 3)
    batch.add([record()], 5)
    assert not batch.is_due(6)

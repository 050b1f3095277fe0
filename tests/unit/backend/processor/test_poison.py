"""How many dead letters are too many."""

from backend.processor.poison import DeadLetterLimit


def test_the_window_moves_along() -> None:
    """Letters count for as long as the window, each from its own time."""
    limit = DeadLetterLimit(most=5, window_seconds=10)
    assert limit.left(0) == 5
    limit.add(3, 0)
    limit.add(2, 4)
    assert (limit.left(9.9), limit.left(10), limit.left(14)) == (0, 3, 5)


def test_there_may_be_no_limit() -> None:
    """A replay lists what it cannot store, however much it is."""
    limit = DeadLetterLimit.none()
    limit.add(10**9, 0)
    assert limit.left(0) > 10**9

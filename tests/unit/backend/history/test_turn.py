"""One watches a directory at a time."""

from pathlib import Path

from backend.history.turn import Turn


def test_one_at_a_time(tmp_path: Path) -> None:
    """The other's turn comes when the first ends."""
    first, second = Turn(tmp_path), Turn(tmp_path)
    assert first.is_ours()
    assert first.is_ours()
    assert not second.is_ours()
    first.end()
    first.end()
    assert second.is_ours()
    assert not first.is_ours()
    second.end()


def test_a_folder_that_takes_no_lock_is_watched(tmp_path: Path) -> None:
    """Nothing is forgotten for that."""
    assert Turn(tmp_path / "away").is_ours()

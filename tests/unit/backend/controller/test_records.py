"""Which changes a replica tells the history of."""

from dataclasses import replace
from typing import Any

import pytest

from backend.controller.records import Records
from backend.ports.control_plane import Condition, Standing
from extauthz.core.governance import Key

Told = list[tuple[Standing | None, Standing | None]]


def _standing(name: str = "g", generation: int = 1, seen: int = 0) -> Standing:
    conditions = (Condition("Accepted", "True", "", "", seen),) if seen else ()
    key = Key("MCPAccessGrant", "ns", name)
    return Standing(key, "uid", generation, None, conditions=conditions)


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def records(told: Told, clock: list[float]) -> Records:
    def record(*change: Any) -> None:
        told.append(change)

    return Records(record, keep_seconds=60, monotonic=lambda: clock[0])


def test_the_leader_tells_at_once(records: Records, told: Told) -> None:
    """While a replica leads, each change is told as it happens."""
    records.note(None, _standing(), leads=True)
    records.note(_standing(), None, leads=True)
    assert told == [(None, _standing()), (_standing(), None)]


def test_what_happened_while_nobody_led(records: Records, told: Told) -> None:
    """The next leader tells what no status speaks of, with what was there before."""
    records.note(_standing("gone"), None, leads=False)
    records.note(_standing("old"), _standing("old", 2), leads=False)
    records.note(_standing("old", 2), _standing("old", 3), leads=False)
    assert told == []
    there = [_standing("old", 3, seen=1), _standing("new"), _standing("known", 2, seen=2)]
    records.take_over(there)
    assert told == [(_standing("gone"), None), (_standing("old"), there[0]), (None, there[1])]


def test_what_the_leader_told_is_not_told_again(
    records: Records, told: Told, clock: list[float]
) -> None:
    """A change whose generation the status speaks of was told, an old deletion was, too."""
    records.note(_standing("gone"), None, leads=False)
    records.note(_standing("old"), _standing("old", 2), leads=False)
    clock[0] = 100.0
    records.take_over([replace(_standing("old", 2), conditions=_standing(seen=2).conditions)])
    assert told == []

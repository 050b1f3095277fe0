"""An edit is told once, and what was told of one that failed is put right."""

from dataclasses import replace

import pytest

from backend.api.governance_attempt import Attempt
from extauthz.core.errors import Retryable
from extauthz.core.governance import Action, Change, Key
from extauthz.core.model import MCPAccessGrant
from extauthz.core.resources import parse_object
from extauthz.core.writing import Object, to_object

Told = list[tuple[str, Object | None]]


class Changes:
    """What the trail is told, in order."""

    def __init__(self, unkept: str = "") -> None:
        self.told: Told = []
        self._unkept = unkept

    def record(self, change: Change) -> None:
        self.told.append(("recorded", change.after))

    def record_later(self, change: Change) -> str:
        self.told.append(("kept", change.after))
        return self._unkept

    def correct(self, recorded: Change, stands: Object | None) -> None:
        self.told.append(("corrected", stands))


def made() -> MCPAccessGrant:
    found = parse_object(
        {
            "apiVersion": "mcpruntime.org/v1alpha1",
            "kind": "MCPAccessGrant",
            "metadata": {"name": "g", "namespace": "ns"},
            "spec": {"serverRef": {"name": "srv"}, "subject": {"agentID": "a"}},
        }
    )
    assert isinstance(found, MCPAccessGrant)
    return found


ON = made()
OFF = replace(ON, disabled=True)


def change(old: MCPAccessGrant | None, new: MCPAccessGrant | None) -> Change:
    before, after = (to_object(each) if each else None for each in (old, new))
    return Change(Key("MCPAccessGrant", "ns", "g"), Action.CHANGED, "ada", "ns/srv", before, after)


def attempt(changes: Changes) -> Attempt[MCPAccessGrant]:
    return Attempt(changes, change, lambda _, new: new == OFF)  # type: ignore[arg-type]


def test_however_often_it_is_tried_it_is_told_once() -> None:
    """A store tries again while others write the object; another object before is another edit."""
    changes = Changes()
    tried = attempt(changes)
    for _ in range(3):
        tried.record(OFF, ON)
    tried.record(replace(OFF, max_trust="high"), ON)
    assert [what for what, _ in changes.told] == ["recorded", "recorded"]


def test_what_failed_is_put_right() -> None:
    """By what stands there then."""
    changes = Changes()
    tried = attempt(changes)
    tried.record(ON, OFF)
    tried.failed(lambda: ON)
    assert changes.told[1:] == [("corrected", to_object(ON))]


def test_what_was_made_all_the_same_stays_told() -> None:
    """The answer was lost, not the write."""
    changes = Changes()
    tried = attempt(changes)
    tried.record(ON, OFF)
    tried.failed(lambda: OFF)
    assert len(changes.told) == 1


def test_what_nobody_can_see_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The store is away; before anything was told, nothing is looked at."""

    def away() -> MCPAccessGrant:
        raise Retryable("it is away")

    changes = Changes()
    attempt(changes).failed(away)
    assert caplog.text == ""
    tried = attempt(changes)
    tried.record(ON, OFF)
    tried.failed(away)
    assert "nobody knows whether it was made" in caplog.text
    assert len(changes.told) == 1


def test_a_record_that_cannot_be_kept_is_said() -> None:
    """The right is taken back all the same."""
    tried = attempt(Changes("the disk is full; free some space"))
    tried.record(ON, OFF)
    assert tried.warnings == ["not recorded as yours: the disk is full; free some space"]

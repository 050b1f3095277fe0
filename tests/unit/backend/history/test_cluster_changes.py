"""What is recorded of changes that others than the api made at an API server."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from backend.history.cluster import (
    API,
    DELETION,
    NO_MANAGER,
    UNKNOWN,
    ClusterChanges,
    change_of,
)
from backend.ports.control_plane import Condition, Standing
from extauthz.core.governance import Action, Change, Key
from extauthz.core.resources import parse_object
from tests.unit.extauthz.core.objects import grant, server


def _standing(generation: int = 1, writer: str = "kubectl-edit", **spec: Any) -> Standing:
    resource = parse_object(grant(**spec))
    key = Key("MCPAccessGrant", "ns", "g")
    return Standing(key, "uid", generation, resource, writer=writer)


SEEN = (Condition("Accepted", "True", "Accepted", "it counts", 1),)


def test_created_changed_deleted() -> None:
    """Each is told with who wrote it and what was there, as far as anybody knows."""
    old, new = _standing(), _standing(2, disabled=True)
    created, changed, deleted = change_of(None, old), change_of(old, new), change_of(new, None)
    assert created is not None
    assert changed is not None
    assert deleted is not None
    actions = [each.action for each in (created, changed, deleted)]
    assert actions == [Action.CREATED, Action.CHANGED, Action.DELETED]
    assert [(each.actor, each.actor_unknown) for each in (created, changed, deleted)] == [
        ("kubectl-edit", ""),
        ("kubectl-edit", ""),
        (UNKNOWN, DELETION),
    ]
    assert (changed.before, deleted.before) == (created.after, changed.after)
    assert created.server == "srv"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, _standing(writer=API)),
        (_standing(), _standing(2, writer=API, disabled=True)),
        (None, replace(_standing(), conditions=SEEN)),
        (_standing(), _standing(2)),
        (None, replace(_standing(), resource=None)),
    ],
    ids=["the api's", "the api's change", "told before a start", "nothing changed", "unreadable"],
)
def test_what_is_not_recorded(before: Standing | None, after: Standing) -> None:
    """What the api records itself, what was recorded before, and what nobody can read."""
    assert change_of(before, after) is None


def test_changed_while_nobody_watched() -> None:
    """A generation that the status does not speak of yet is recorded after a start."""
    found = change_of(None, replace(_standing(2), conditions=SEEN))
    assert found is not None
    assert (found.action, found.before) == (Action.CHANGED, None)


def test_a_write_without_a_name() -> None:
    """Nobody is made up, and why is told."""
    found = change_of(None, _standing(writer=""))
    assert found is not None
    assert (found.actor, found.actor_unknown) == (UNKNOWN, NO_MANAGER)


def test_a_server_is_recorded_too() -> None:
    """Yesterday's decision is explained by the server's policy of yesterday."""
    made = parse_object(server())
    found = change_of(None, Standing(Key("MCPServer", "ns", "srv"), "uid", 1, made))
    assert found is not None
    assert found.server == "srv"


async def test_all_is_recorded_in_order_before_the_end() -> None:
    """What waits at the end is recorded yet, in the order of the changes."""
    recorded: list[Change] = []
    changes = ClusterChanges(recorded.append)
    for generation in range(1, 6):
        changes.note(_standing(generation, maxTrust="low"), _standing(generation, maxTrust="high"))
        changes.note(_standing(generation), None)
    stop = asyncio.Event()
    stop.set()
    await changes.run(stop, lambda: None)
    assert len(recorded) == 10
    assert [each.action for each in recorded[:2]] == [Action.CREATED, Action.DELETED]

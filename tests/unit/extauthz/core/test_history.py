"""Objects as they were, from recorded changes."""

import json
from typing import Any

import pytest
from objects import grant, server, session

from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.governance import (
    MAX_PAYLOAD_BYTES,
    Action,
    Change,
    Key,
    change_payload,
    read_change,
    server_of,
)
from extauthz.core.history import Recorded, access_at

SERVER = ObjectRef("ns", "srv")


def change(before: Any, after: Any, **members: Any) -> Change:
    known = after or before
    meta = known["metadata"]
    return Change(
        key=Key(known["kind"], meta["namespace"], meta["name"]),
        action=Action.CHANGED,
        actor="file",
        server=server_of(known),
        before=before,
        after=after,
        **members,
    )


def test_a_change_survives_its_event() -> None:
    """What is written into a payload is read from it."""
    told = change(grant(), grant(disabled=True), file="a.yaml", modified_at="2026-06-01T12:00:00Z")
    assert read_change(json.dumps(change_payload(told))) == told
    nobody = change(grant(), None, actor_unknown="nobody tells")
    assert read_change(json.dumps(change_payload(nobody))) == nobody


def test_a_large_change_is_told_without_what_is_too_large() -> None:
    """First without what was before; an event has a bound."""
    large = server(tools=[{"name": "t", "description": "x" * (MAX_PAYLOAD_BYTES // 2)}])
    payload = change_payload(change(large, large))
    assert (payload["before"], payload["after"]) == (None, large)
    assert read_change(json.dumps(payload)).left_out == ("before",)
    huge = server(tools=[{"name": "t", "description": "x" * MAX_PAYLOAD_BYTES}])
    payload = change_payload(change(huge, huge))
    assert len(json.dumps(payload)) < 1000
    assert payload["left_out"] == ["before", "after"]


@pytest.mark.parametrize(
    "payload",
    ["", "[]", "{}", '{"kind": "Secret", "namespace": "n", "name": "n", "action": "created"}',
     '{"kind": "MCPServer", "namespace": "n", "name": "n", "action": "created", "after": 1}'],
)  # fmt: skip
def test_what_is_no_change_is_refused(payload: str) -> None:
    """Another producer's payload is never taken for one."""
    with pytest.raises(Invalid):
        read_change(payload)


def test_the_state_is_after_the_last_change_and_before_the_next() -> None:
    """A change that came later tells what was there until then."""
    recorded = [
        Recorded(10, change(None, server())),
        Recorded(10, change(grant("g"), grant("g", disabled=True))),
        Recorded(30, change(grant("h"), None)),
        Recorded(30, change(None, session())),
        Recorded(10, change(grant("gone"), None)),
    ]
    past = access_at(recorded, SERVER, 20)
    assert past.access is not None
    assert [(g.name, g.disabled) for g in past.access.grants] == [("g", True), ("h", False)]
    assert not past.access.sessions
    assert not past.gaps


def test_what_is_not_known_is_said() -> None:
    """A server that nobody recorded, an object that was too large, one of another version."""
    none = access_at([], SERVER, 20)
    assert none.access is None
    assert "no MCPServer `ns/srv` was recorded" in none.gaps[0]
    left_out = change(None, grant(), left_out=("after",))
    unread = change(None, grant("new", colour="red"))
    recorded = [Recorded(1, change(None, server())), Recorded(1, left_out), Recorded(1, unread)]
    past = access_at(recorded, SERVER, 20)
    assert past.access is not None
    assert [gap.split(" ", 2)[1] for gap in past.gaps] == ["ns/g", "ns/new"]

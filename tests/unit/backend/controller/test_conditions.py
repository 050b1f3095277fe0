"""What the status of an object says."""

from dataclasses import replace
from typing import Any

import pytest

from backend.controller.conditions import Reach, of_binding, of_server, settle
from backend.ports.control_plane import Condition, Standing
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.governance import Key
from extauthz.core.model import MCPServer
from extauthz.core.resources import parse_object
from tests.unit.extauthz.core.objects import grant, server, session

NOW, WRITTEN = 1_800_000_000.0, "2027-01-15T08:00:00.000Z"
ALL, NONE = Reach(2, 2), Reach(0, 0)


def _standing(value: Any) -> Standing:
    made = parse_object(value)
    return Standing(Key(value["kind"], made.namespace, made.name), "uid", 3, made)


def _servers(**spec: Any) -> dict[ObjectRef, MCPServer]:
    made = parse_object(server(**spec))
    assert isinstance(made, MCPServer)
    return {ObjectRef("ns", "srv"): made}


def _told(value: Any, reach: Reach = ALL, **spec: Any) -> dict[str, Condition]:
    found = of_binding(_standing(value), _servers(**spec), None, reach, NOW)
    return {each.type: each for each in found}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (grant(), "Accepted"),
        (grant(toolRules=[{"name": "buy", "decision": "allow"}]), "AcceptedWithWarnings"),
        (grant(serverRef={"name": "srw", "namespace": "ns"}), "NoServer"),
        (grant(namespace="other"), "NamespaceNotAllowed"),
        (grant(expiresAt="2020-01-01T00:00:00Z"), "Expired"),
        (session(expiresAt="2020-01-01T00:00:00Z"), "Expired"),
    ],
)
def test_why_it_counts_or_not(value: Any, reason: str) -> None:
    """Each fault has a reason and words that say the mend; what counts is true."""
    told = _told(value, tools=[{"name": "list"}])
    assert told["Accepted"].reason == reason
    assert told["Accepted"].status == ("True" if reason.startswith("Accepted") else "False")
    assert told["Accepted"].message
    assert told["Enforced"].status == told["Accepted"].status
    assert {each.generation for each in told.values()} == {3}


def test_what_cannot_be_read_or_rendered() -> None:
    """The reader's own words are the message."""
    unread = replace(_standing(grant()), resource=None, fault="spec.subject: is needed; set it")
    accepted, enforced = of_binding(unread, _servers(), None, ALL, NOW)
    assert (accepted.reason, accepted.message) == ("Unreadable", unread.fault)
    assert enforced.reason == "NotAccepted"
    fault = Invalid("spec", "has no creation time", "set it")
    assert of_binding(_standing(grant()), _servers(), fault, ALL, NOW)[0].reason == "Invalid"


@pytest.mark.parametrize(
    ("reach", "status", "reason"),
    [
        (NONE, "Unknown", "NoSidecar"),
        (Reach(3, 1), "Unknown", "Pending"),
        (Reach(3, 1, ("g: full",)), "Unknown", "Refused"),
        (ALL, "True", "Acknowledged"),
    ],
)
def test_how_far_it_has_come(reach: Reach, status: str, reason: str) -> None:
    """Enforced is true once every connected sidecar says so, and no earlier."""
    told = _told(grant(), reach)["Enforced"]
    assert (told.status, told.reason) == (status, reason)


def test_warnings_of_a_server() -> None:
    """Who may claim to be anybody, and whose sessions may be left out, is told."""
    warned = of_server(_standing(server()), ALL, has_sessions=True, beside=())
    assert {each.type for each in warned} == {
        *("Accepted", "Enforced", "IdentityUnauthenticated", "SessionOptional")
    }
    safe = server(auth={"trustedPeers": ["10.0.0.0/8"]}, session={"required": True})
    found = of_server(_standing(safe), ALL, has_sessions=True, beside=())
    assert {each.type for each in found} == {"Accepted", "Enforced"}


def test_a_server_that_cannot_be_read() -> None:
    """It is told that what ran goes on."""
    unread = replace(_standing(server()), resource=None, fault="spec.auth.mode: no")
    accepted, _ = of_server(unread, ALL, has_sessions=False, beside=())
    assert (accepted.status, accepted.reason) == ("False", "Unreadable")


def test_nothing_is_written_twice() -> None:
    """A status that says so already is left, whatever others say beside it."""
    wanted = [*_told(grant()).values()]
    written = settle(_standing(grant()), wanted, WRITTEN)
    assert written is not None
    assert {each.since for each in written} == {WRITTEN}
    theirs = Condition("Theirs", "True", "", "", 1, "")
    stood = replace(_standing(grant()), conditions=(theirs, *written))
    assert settle(stood, wanted, "2028-01-01T00:00:00Z") is None


def test_a_restarted_sidecar_is_no_news() -> None:
    """What was enforced stays so while its generation does, and no longer."""
    written = settle(_standing(grant()), _told(grant()).values(), WRITTEN)
    assert written is not None
    stood = replace(_standing(grant()), conditions=tuple(written))
    assert settle(stood, _told(grant(), NONE).values(), "later") is None
    newer = [replace(each, generation=4) for each in _told(grant(), NONE).values()]
    again = settle(replace(stood, generation=4), newer, "later")
    assert again is not None
    assert {each.type: each.status for each in again}["Enforced"] == "Unknown"
    assert {each.type: each.since for each in again} == {"Accepted": WRITTEN, "Enforced": "later"}

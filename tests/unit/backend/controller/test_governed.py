"""Which documents a change of an object touches."""

from typing import Any

import pytest

from backend.controller.governed import Governed
from extauthz.core.decision import ObjectRef
from extauthz.core.governance import Key
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.resources import parse_object
from tests.unit.extauthz.core.objects import grant, server, session

NOW = "2026-01-01T00:00:00.000Z"
GRANT, SESSION = Key("MCPAccessGrant", "ns", "g"), Key("MCPAgentSession", "ns", "s")
SRV = ObjectRef("ns", "srv")


def _server(name: str = "srv", **spec: Any) -> MCPServer:
    made = parse_object(server(name, **spec))
    assert isinstance(made, MCPServer)
    return made


def _binding(value: Any) -> MCPAccessGrant | MCPAgentSession:
    made = parse_object(value)
    assert isinstance(made, MCPAccessGrant | MCPAgentSession)
    return made


@pytest.fixture
def governed() -> Governed:
    made = Governed("c")
    made.put_server(_server(), NOW)
    return made


def test_a_grant_waits_for_its_server() -> None:
    """Without the server nothing is rendered; it is when the server comes."""
    governed = Governed("")
    assert governed.put(GRANT, _binding(grant())) == []
    assert not governed.counts(GRANT)
    assert set(governed.put_server(_server(), NOW).put) == {GRANT}
    assert governed.counts(GRANT)


def test_a_change_touches_its_server_alone(governed: Governed) -> None:
    """One grant is one object of one document, and its head stays."""
    [delta] = governed.put(GRANT, _binding(grant()))
    assert (delta.server, delta.head, set(delta.put)) == (SRV, None, {GRANT})
    [gone] = governed.put(GRANT, None)
    assert gone.gone == {GRANT}


def test_a_grant_that_moves(governed: Governed) -> None:
    """One that names another server leaves the first one's document."""
    governed.put_server(_server("other"), NOW)
    governed.put(GRANT, _binding(grant()))
    moved = _binding(grant(serverRef={"name": "other", "namespace": "ns"}))
    left, came = sorted(governed.put(GRANT, moved), key=lambda each: len(each.put))
    assert (left.server, left.gone) == (SRV, {GRANT})
    assert (came.server.name, set(came.put)) == ("other", {GRANT})


def test_a_server_that_renders_alike_touches_no_grant(governed: Governed) -> None:
    """Other tools or modes change the head alone; a team changes the grants with it."""
    governed.put(GRANT, _binding(grant()))
    assert governed.put_server(_server(tools=[{"name": "t"}]), NOW).put == {}
    assert set(governed.put_server(_server(teamID="t"), NOW).put) == {GRANT}


def test_namespaces_that_are_allowed(governed: Governed) -> None:
    """A grant of another namespace counts as long as the server says so."""
    key = Key("MCPAccessGrant", "other", "g")
    [delta] = governed.put(key, _binding(grant(namespace="other")))
    assert delta.gone == {key}
    allowed = _server(policy={"allowedNamespaces": ["other"]})
    assert set(governed.put_server(allowed, NOW).put) == {key}
    assert governed.put_server(_server(), NOW).gone == {key}


def test_what_cannot_be_rendered_is_left_out(governed: Governed) -> None:
    """A session without a creation time has no end where lifetimes are enforced; that is told."""
    governed.put(SESSION, _binding(session()))
    assert governed.has_sessions(SRV)
    spec = {"enforceMaxLifetime": True, "maxLifetime": "1h"}
    assert governed.put_server(_server(session=spec), NOW).gone == {SESSION}
    assert "creationTimestamp" in str(governed.faults[SESSION])
    assert not governed.has_sessions(SRV)
    governed.put(SESSION, _binding(session(created=NOW)))
    assert not governed.faults
    assert governed.counts(SESSION)

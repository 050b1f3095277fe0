"""A change that only tightens never allows a call, whatever else stands there."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from objects import grant, server, session
from test_remedies import CALLERS, COMING, GRANTS, NOW, PAST, SESSIONS, TOOLS

from extauthz.core.admission import check_write
from extauthz.core.compile import compile_document
from extauthz.core.decide import Snapshot
from extauthz.core.decision import ObjectRef
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.render import render
from extauthz.core.request import Call, Identity
from extauthz.core.resources import parse_object
from extauthz.core.tightening import only_tightens

LATER = NOW + 7200
DENY = [{"name": "read", "decision": "deny"}]
ALLOW = [{"name": "read", "decision": "allow"}]
HIGH = [{"name": "read", "decision": "allow", "requiredTrust": "high"}]


def tightens(before: Any, after: Any, **policy: Any) -> bool:
    made = parse_object(server(**policy))
    assert isinstance(made, MCPServer)
    items = [parse_object(each) if each else None for each in (before, after)]
    return only_tightens(*items, {ObjectRef("ns", "srv"): made}, NOW)  # type: ignore[arg-type]


ROWS = [
    # what is done, before, after, whether it tightens where the default is deny, and allow
    ("disable", grant(), grant(disabled=True), True, True),
    ("enable", grant(disabled=True), grant(), False, False),
    (
        "disable what denies",
        grant(toolRules=DENY),
        grant(toolRules=DENY, disabled=True),
        False,
        False,
    ),
    (
        "disable what falls short",
        grant(toolRules=HIGH),
        grant(toolRules=HIGH, disabled=1 > 0),
        1,
        0,
    ),
    ("delete what allows", grant(toolRules=ALLOW), None, True, True),
    ("delete what falls short", grant(toolRules=HIGH), None, True, False),
    ("delete what allows all", grant(), None, True, True),
    ("delete what denies", grant(toolRules=DENY), None, False, False),
    ("delete what is disabled", grant(disabled=True), None, True, False),
    ("make what allows", None, grant(), False, False),
    ("make what only denies", None, grant(toolRules=DENY), True, False),
    ("make what is disabled", None, grant(disabled=True), True, True),
    ("add a deny rule", grant(toolRules=ALLOW), grant(toolRules=DENY), True, True),
    ("take the last rule away", grant(toolRules=ALLOW), grant(), False, False),
    ("add the first rule", grant(), grant(toolRules=ALLOW), True, True),
    ("lower trust", grant(maxTrust="high"), grant(maxTrust="low"), True, True),
    ("raise trust", grant(maxTrust="low"), grant(maxTrust="high"), False, False),
    ("ask for trust", grant(toolRules=ALLOW), grant(toolRules=HIGH), True, True),
    ("let it end", grant(), grant(expiresAt=COMING), True, True),
    ("let it end later", grant(expiresAt=COMING), grant(), False, False),
    ("revive", grant(expiresAt=PAST), grant(expiresAt=COMING), False, False),
    ("limit effects", grant(), grant(allowedSideEffects=["read"]), True, True),
    ("another subject", grant(), grant(subject={"agentID": "b"}), False, False),
    ("another server", grant(), grant(serverRef={"name": "else"}), False, False),
    ("name it", grant(), grant(policyVersion="v2"), True, True),
    ("revoke", session(), session(revoked=True), True, True),
    ("un-revoke", session(revoked=True), session(), False, False),
    ("lower consent", session(consentedTrust="high"), session(consentedTrust="low"), True, True),
    ("raise consent", session(consentedTrust="low"), session(consentedTrust="high"), False, False),
    ("start a session", None, session(consentedTrust="low"), True, True),
    ("delete a session", session(consentedTrust="low"), None, False, False),
    ("delete a revoked one", session(revoked=True), None, False, False),
]


@pytest.mark.parametrize(("what", "before", "after", "denying", "allowing"), ROWS)
def test_changes(what: str, before: Any, after: Any, denying: bool, allowing: bool) -> None:
    """What a person does, under both default decisions."""
    found = tightens(before, after), tightens(before, after, policy={"defaultDecision": "allow"})
    assert found == (denying, allowing), what


def test_where_sessions_are_required_deleting_one_tightens() -> None:
    """And starting one does not."""
    needed = {"session": {"required": True}}
    assert tightens(session(), None, **needed)
    assert not tightens(None, session(), **needed)


def test_of_a_server_that_is_not_there_defaults_count() -> None:
    """Taking a right back never fails for that."""
    on, off = parse_object(grant()), parse_object(grant(disabled=True))
    assert isinstance(on, MCPAccessGrant)
    assert isinstance(off, MCPAccessGrant)
    assert only_tightens(on, off, {}, NOW)
    assert not only_tightens(off, on, {}, NOW)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Any, Any, Any, list[Any]]:
    """A server, an object before and after, and the others."""
    spec = {
        "policy": {
            "defaultDecision": draw(st.sampled_from(["deny", "allow"])),
            "sideEffectGuard": draw(st.sampled_from(["whenSet", "required"])),
        },
        "session": {"required": draw(st.booleans())},
        "teamID": draw(st.sampled_from(["", "t"])),
        "tools": [
            {"name": "read", "sideEffect": "read"},
            {"name": "write", "sideEffect": "write", "requiredTrust": "medium"},
            {"name": "wipe", "sideEffect": "destructive", "requiredTrust": "high"},
            {"name": "plain"},
        ],
    }
    is_grant = draw(st.booleans())
    kind, specs = (grant, GRANTS) if is_grant else (session, SESSIONS)
    name = "it" if is_grant else "s0"
    before, after = (draw(st.none() | specs) for _ in range(2))
    others = [grant(f"g{i}", **draw(GRANTS)) for i in range(draw(st.integers(0, 2)))]
    if is_grant:
        others += [session("s0", **draw(SESSIONS))]
    return (
        server(**spec),
        kind(name, **before) if before is not None else None,
        kind(name, **after) if after is not None else None,
        others,
    )


@settings(
    max_examples=400, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(situations(), CALLERS)
def test_nothing_is_allowed_by_it(
    situation: tuple[Any, Any, Any, list[Any], str], caller: Identity
) -> None:
    """Of every tool, now and when things have expired."""
    spec, before, after, others = situation
    made = parse_object(spec)
    assert isinstance(made, MCPServer)
    old, new = (parse_object(each) if each else None for each in (before, after))
    servers = {ObjectRef("ns", "srv"): made}
    if not only_tightens(old, new, servers, NOW):  # type: ignore[arg-type]
        return
    rest = [parse_object(each) for each in others]
    for now in (NOW, LATER):
        was, will = (snapshot(made, [*rest, each] if each else rest) for each in (old, new))
        for tool in TOOLS:
            call = Call(method="tools/call", tool=tool)
            if will.decide_call(call, caller, None, now).allowed:
                assert was.decide_call(call, caller, None, now).allowed, tool


@settings(
    max_examples=400, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(situations())
def test_nothing_stands_in_its_way(situation: tuple[Any, Any, Any, list[Any]]) -> None:
    """What only tightens an object that is there is written, whatever its rules are worth."""
    spec, before, after, _ = situation
    made = parse_object(spec)
    assert isinstance(made, MCPServer)
    old, new = (parse_object(each) if each else None for each in (before, after))
    is_move = isinstance(old, MCPAgentSession) and new and new.subject != old.subject  # type: ignore[union-attr]
    if old and new and not is_move and only_tightens(old, new, {ObjectRef("ns", "srv"): made}, NOW):  # type: ignore[arg-type]
        check_write(old, new)  # type: ignore[type-var]


def snapshot(made: MCPServer, items: list[Any]) -> Snapshot:
    grants = [item for item in items if isinstance(item, MCPAccessGrant)]
    sessions = [item for item in items if isinstance(item, MCPAgentSession)]
    document = render(made, grants, sessions, generated_at="2026-06-01T12:00:00Z")
    return Snapshot.of(compile_document(document))

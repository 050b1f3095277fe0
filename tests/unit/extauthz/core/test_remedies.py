"""The smallest changes: each really allows the call, as a patch, and little else."""

import copy
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from objects import grant, server, session

from extauthz.core.compile import compile_document
from extauthz.core.decide import Snapshot
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer, Resource
from extauthz.core.remedies import Access, Remedy, remedies
from extauthz.core.render import render
from extauthz.core.request import Call, Identity
from extauthz.core.resources import parse_object

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
PAST, COMING = "2026-06-01T11:00:00Z", "2026-06-01T13:00:00Z"
TOOLS = ("read", "write", "wipe", "plain", "undeclared")
TRUST = st.sampled_from(["low", "medium", "high"])


def present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value not in ("", [], False, {})}


SUBJECTS = st.fixed_dictionaries(
    {
        "humanID": st.sampled_from(["", "", "h"]),
        "agentID": st.sampled_from(["a", "a", "b"]),
        "teamID": st.sampled_from(["", "", "t"]),
    }
).map(present)
RULES = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(TOOLS),
            "decision": st.sampled_from(["allow", "allow", "deny"]),
            "requiredTrust": st.sampled_from(["", "", "high"]),
        }
    ).map(present),
    max_size=3,
    unique_by=lambda rule: rule["name"],
)
GRANTS = st.fixed_dictionaries(
    {
        "subject": SUBJECTS,
        "maxTrust": TRUST,
        "toolRules": RULES,
        "allowedSideEffects": st.sampled_from([[], ["read"], ["write", "destructive"]]),
        "disabled": st.sampled_from([False, False, True]),
        "expiresAt": st.sampled_from(["", "", PAST, COMING]),
    }
).map(present)
SESSIONS = st.fixed_dictionaries(
    {
        "subject": SUBJECTS,
        "consentedTrust": TRUST,
        "revoked": st.sampled_from([False, False, True]),
        "expiresAt": st.sampled_from(["", PAST, COMING]),
    }
).map(present)
CALLERS = st.builds(
    Identity,
    human_id=st.sampled_from(["", "h", "i"]),
    agent_id=st.sampled_from(["", "a", "a", "c"]),
    team_id=st.sampled_from(["", "t", "u"]),
    session_id=st.sampled_from(["", "", "s0", "s1", "new", "other/s0", "No Name"]),
)


@st.composite
def objects(draw: st.DrawFn) -> list[Any]:
    spec = {
        "teamID": draw(st.sampled_from(["", "", "t"])),
        "policy": {
            "mode": draw(st.sampled_from(["allow-list", "allow-list", "observe"])),
            "defaultDecision": draw(st.sampled_from(["deny", "deny", "allow"])),
            "sideEffectGuard": draw(st.sampled_from(["whenSet", "whenSet", "required"])),
            "allowedNamespaces": ["other"],
        },
        "session": {
            "required": draw(st.booleans()),
            "enforceMaxLifetime": draw(st.sampled_from([False, False, True])),
        },
        "tools": [
            {"name": "read", "sideEffect": "read", "requiredTrust": draw(TRUST)},
            {"name": "write", "sideEffect": "write", "requiredTrust": draw(TRUST)},
            {"name": "wipe", "sideEffect": "destructive", "requiredTrust": draw(TRUST)},
            {"name": "plain"},
        ],
    }
    spaces = st.sampled_from(["ns", "ns", "other", "foreign"])
    grants = [grant(f"g{i}", draw(spaces), **spec) for i, spec in enumerate(draw(st.lists(GRANTS)))]
    sessions = [
        session(f"s{i}", draw(spaces), created="2026-06-01T06:00:00Z", **draw(SESSIONS))
        for i in range(2)
    ]
    return [server(**present(spec)), *grants, *sessions]


def snapshot(written: list[Any]) -> Snapshot:
    found = access([parse_object(each) for each in written])
    document = render(found.server, found.grants, found.sessions, generated_at="")
    return Snapshot.of(compile_document(document), NOW)


def access(resources: list[Resource]) -> Access:
    (found,) = (each for each in resources if isinstance(each, MCPServer))
    return Access(
        found,
        [each for each in resources if isinstance(each, MCPAccessGrant)],
        [each for each in resources if isinstance(each, MCPAgentSession)],
    )


def enforced(policy: Snapshot, tool: str, who: Identity) -> tuple[str, str]:
    decision = policy.decide_call(Call(method="tools/call", tool=tool), who, None, NOW)
    counts = decision.would or decision
    return counts.effect, counts.reason


def patched(written: list[Any], remedy: Remedy) -> list[Any]:
    """The objects with the patches applied, as `kubectl patch --type merge` would."""
    after = copy.deepcopy(written)
    for change in remedy.changes:
        patch = change.patch
        if change.before is None:
            after.append(patch)
            continue
        (target,) = (each for each in after if key(each) == key(patch))
        merge(target, patch)
    return after


def key(written: Any) -> tuple[str, str, str]:
    return written["kind"], written["metadata"]["namespace"], written["metadata"]["name"]


def merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """RFC 7386, section 2."""
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict):
            merge(target.setdefault(name, {}), value)
        else:
            target[name] = value


def found(written: list[Any], tool: str, who: Identity) -> list[Remedy]:
    resources = access([parse_object(each) for each in written])
    return remedies(resources, Call(method="tools/call", tool=tool), who, NOW)


def callers() -> Iterator[Identity]:
    for human in ("", "h", "i"):
        for agent in ("", "a", "b", "c"):
            for team in ("", "t", "u"):
                for named in ("", "s0", "s1", "new"):
                    yield Identity(human, agent, team, named)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(objects(), CALLERS, st.sampled_from(TOOLS))
def test_applying_a_change_allows_the_call_and_nothing_to_others(
    written: list[Any], who: Identity, tool: str
) -> None:
    """Each patch allows the call; one that opens nothing changes nobody else's decision."""
    before = snapshot(written)
    effect, _ = enforced(before, tool, who)
    changes = found(written, tool, who)
    assert not changes or effect == "deny"
    assert [c.opens_to_others for c in changes] == sorted(c.opens_to_others for c in changes)
    for remedy in changes:
        after = snapshot(patched(written, remedy))
        assert enforced(after, tool, who)[0] == "allow"
        if remedy.opens_to_others:
            continue
        mine = {name: v for name in FIELDS if (v := getattr(who, name))}
        for other in callers():
            if all(getattr(other, name) == value for name, value in mine.items()):
                continue  # it looks like this caller
            for each in TOOLS:
                assert enforced(after, each, other) == enforced(before, each, other)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(objects(), CALLERS, st.sampled_from(TOOLS))
def test_a_denied_call_gets_a_change_unless_no_object_can_help(
    written: list[Any], who: Identity, tool: str
) -> None:
    """Nothing is proposed only for a reason that can be named."""
    effect, reason = enforced(snapshot(written), tool, who)
    spec = written[0]["spec"]
    team, guard = spec.get("teamID", ""), spec["policy"]["sideEffectGuard"]
    is_hopeless = (
        reason in {"missing_identity", "missing_session", "session_not_found"}
        or team not in ("", who.team_id)  # every grant of this server is for that team
        or (guard == "required" and tool in ("plain", "undeclared"))
    )
    if effect == "deny" and not is_hopeless:
        assert found(written, tool, who)


FIELDS = ("human_id", "agent_id", "team_id")
DECLARED = [
    {"name": "read", "sideEffect": "read"},
    {"name": "wipe", "sideEffect": "destructive", "requiredTrust": "high"},
    {"name": "plain"},
]
A = Identity(agent_id="a")
ONLY_READ = [{"name": "read"}]


def first(*written: Any, tool: str = "read", who: Identity = A, **spec: Any) -> list[str]:
    """What the smallest change does."""
    changes = found([server(tools=DECLARED, **spec), *written], tool, who)
    return [what for change in changes[0].changes for what in change.summaries] if changes else []


@pytest.mark.parametrize(
    ("written", "tool", "expected"),
    [
        (grant(maxTrust="low"), "wipe", "raise maxTrust of grant ns/g to high"),
        (grant(toolRules=[{"name": "plain"}]), "read", "add a rule for `read` to grant ns/g"),
        (
            grant(allowedSideEffects=["write"]),
            "read",
            "add `read` to the side effects of grant ns/g",
        ),
        (grant(disabled=True), "read", "enable grant ns/g"),
        (grant(expiresAt=PAST), "read", "extend grant ns/g to 2026-06-02T12:00:00.000Z"),
        (
            grant(toolRules=[{"name": "read", "decision": "deny"}]),
            "read",
            "let the rule of grant ns/g for `read` allow it",
        ),
    ],
)
def test_one_edit_of_the_callers_own_grant(written: Any, tool: str, expected: str) -> None:
    """Where one edit of a grant for just this caller helps, it is the smallest change."""
    assert first(written, tool=tool) == [expected]


def test_sessions_are_revived_and_raised() -> None:
    """A revoked session that also consents to too little takes two edits of one object."""
    named = Identity(agent_id="a", session_id="s")
    changes = found(
        [server(tools=DECLARED), grant(maxTrust="high"), session(revoked=True)], "wipe", named
    )
    (change,) = changes[0].changes
    assert change.patch["kind"] == "MCPAgentSession"
    assert change.patch["spec"] == {"consentedTrust": "high", "revoked": False}


def test_an_unknown_caller_gets_a_grant_of_its_own() -> None:
    """A minimal one: this caller, this tool, its trust and its side effect alone."""
    who = Identity(human_id="h", agent_id="new")
    (change,) = found([server(tools=DECLARED), grant()], "wipe", who)[0].changes
    assert change.before is None
    assert change.patch["spec"] == {
        "serverRef": {"name": "srv", "namespace": "ns"},
        "subject": {"humanID": "h", "agentID": "new"},
        "maxTrust": "high",
        "toolRules": [{"name": "wipe", "decision": "allow"}],
        "allowedSideEffects": ["destructive"],
    }


def test_what_opens_least_to_others_comes_first() -> None:
    """A grant of a whole team is edited only where nothing narrower helps; that is said."""
    who = Identity(agent_id="a", team_id="t")
    team = grant(subject={"teamID": "t"}, toolRules=ONLY_READ)
    narrow, wide = found([server(tools=DECLARED), team], "plain", who)
    assert (narrow.opens_to_others, narrow.changes[0].before) == (False, None)
    assert (wide.opens_to_others, wide.changes[0].after.name) == (True, "g")


@pytest.mark.parametrize(
    ("who", "spec"),
    [
        (Identity(), {}),
        (A, {"session": {"required": True}}),
        (A, {"policy": {"sideEffectGuard": "required"}}),
        (A, {"teamID": "t"}),
    ],
)
def test_where_no_object_helps_nothing_is_proposed(who: Identity, spec: dict[str, Any]) -> None:
    """No identity, no session named, an undeclared class that the guard asks for, no team."""
    assert first(grant(), tool="plain", who=who, **spec) == []


def test_an_allowed_call_needs_no_change() -> None:
    """Nothing is proposed."""
    assert first(grant()) == []


def test_objects_that_make_no_policy() -> None:
    """Nothing is proposed for what cannot be rendered."""
    spec = {"session": {"required": True, "enforceMaxLifetime": True}}
    who = Identity(agent_id="a", session_id="s")
    assert first(grant(), session(), who=who, **spec) == []

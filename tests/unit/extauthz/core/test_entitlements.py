"""Who can call a tool, and what a caller can call: exactly what the evaluator answers."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from objects import grant, server, session
from test_remedies import COMING, PAST, TOOLS, access, objects

from extauthz.core.compile import compile_document
from extauthz.core.entitlements import Caller, WhoCan, what_can, who_can
from extauthz.core.policy import Policy
from extauthz.core.render import render
from extauthz.core.request import Identity
from extauthz.core.resources import parse_object
from extauthz.core.rulings import decide, enforced, fits, rule

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
ALL = 1_000_000
# What holds where several callers of an answer fit one that asks (docs/commands.md).
STRONGEST = (
    *("session_revoked", "session_expired", "missing_session"),
    *("tool_denied", "allowed"),
    *("trust_too_low", "side_effect_not_allowed", "tool_side_effect_unknown"),
    *("tool_not_granted", "grant_disabled", "grant_expired", "no_matching_grant"),
)
PROPERTY = settings(
    max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def compiled(written: list[Any]) -> Policy:
    found = access([parse_object(each) for each in written])
    return compile_document(render(found.server, found.grants, found.sessions, generated_at=""))


def key(who: Identity) -> tuple[str, str, str]:
    return who.human_id, who.agent_id, who.team_id


def says(answer: WhoCan, policy: Policy, who: Identity) -> tuple[str, str]:
    """What a reader of the whole answer makes of any caller."""
    if who.is_empty:
        return "deny", "missing_identity"
    own = policy.sessions.get(who.session_id)
    named = who.session_id if own and own.is_for(who) else ""
    rulings = [
        ruling
        for each in answer.callers
        for ruling in each.rulings
        if fits(key(ruling.decision.identity), key(who))
        and ruling.decision.identity.session_id == named
    ]
    strongest = min(rulings, key=lambda r: STRONGEST.index(r.reason), default=answer.others)
    return strongest.effect, strongest.reason


def everybody() -> Iterator[Identity]:
    for human in ("", "h", "i"):
        for agent in ("", "a", "b", "c"):
            for team in ("", "t", "u"):
                for named in ("", "s0", "s1", "other/s0", "nowhere"):
                    yield Identity(human, agent, team, named)


EVERYBODY = list(everybody())
SOME = st.lists(st.sampled_from(EVERYBODY), min_size=8, max_size=8)


@PROPERTY
@given(objects(), st.sampled_from(TOOLS))
def test_who_can_is_what_the_evaluator_answers(written: list[Any], tool: str) -> None:
    """Of any caller, whether the answer names it or not, it tells the decision."""
    policy = compiled(written)
    answer = who_can(policy, tool, NOW, ALL)
    assert not answer.left_off
    for who in EVERYBODY:
        effect, reason = enforced(decide(policy, tool, who, NOW))
        told, why = says(answer, policy, who)
        assert told == effect, (who, why, reason)
        if reason in ("allowed", "tool_denied"):
            assert why == reason


@PROPERTY
@given(objects(), SOME)
def test_what_can_is_what_the_evaluator_answers(
    written: list[Any], callers: list[Identity]
) -> None:
    """For each tool, those that nothing names included, and each session of the caller's own."""
    policy = compiled(written)
    for who in callers:
        answer = what_can(policy, who, NOW)
        by_tool = {each.tool: each.rulings for each in answer.tools}
        for tool in (*TOOLS, "what nobody names"):
            rulings = by_tool.get(tool, by_tool[""])
            decisions = [ruling.decision for ruling in rulings]
            for session_id in {d.identity.session_id for d in decisions} | {who.session_id}:
                asked = Identity(*key(who), session_id=session_id)
                (told,) = (d for d in decisions if d.identity == asked)
                expected = decide(policy, tool, asked, NOW)
                assert (told.effect, told.reason) == (expected.effect, expected.reason)


@PROPERTY
@given(objects(), st.sampled_from(TOOLS), SOME)
def test_until_is_when_the_decision_turns(
    written: list[Any], tool: str, callers: list[Identity]
) -> None:
    """Right before it the effect is the same; from it on it is another one; without it, never."""
    policy = compiled(written)
    for who in callers:
        ruling = rule(policy, tool, who, NOW)
        last = (ruling.until or NOW + 10**8) - 0.001
        assert enforced(decide(policy, tool, who, last))[0] == ruling.effect
        if ruling.until:
            assert enforced(decide(policy, tool, who, ruling.until))[0] != ruling.effect


TOOLS_DECLARED = [
    {"name": "read", "sideEffect": "read"},
    {"name": "wipe", "sideEffect": "destructive", "requiredTrust": "high"},
]


def asked(*written: Any, tool: str = "wipe", most: int = ALL, **spec: Any) -> WhoCan:
    return who_can(compiled([server(tools=TOOLS_DECLARED, **spec), *written]), tool, NOW, most)


def line(caller: Caller) -> tuple[str, ...]:
    ruling = caller.rulings[0]
    return ("/".join(caller.subject), ruling.effect, ruling.why, ruling.rule)


def test_what_is_missing_is_named() -> None:
    """Grant, rule, and the trust that is still missing; callers that can come first."""
    answer = asked(
        grant("low", subject={"agentID": "a"}, maxTrust="low"),
        grant("high", subject={"humanID": "h"}, maxTrust="high", toolRules=[{"name": "wipe"}]),
        grant("no", subject={"teamID": "t"}, toolRules=[{"name": "wipe", "decision": "deny"}]),
        grant("other", subject={"agentID": "z"}, toolRules=[{"name": "read"}]),
    )
    assert [line(each) for each in answer.callers] == [
        ("h//", "allow", "allowed: grant ns/high allows `wipe`", "wipe:allow"),
        ("//t", "deny", "tool_denied: grant ns/no denies `wipe`", "wipe:deny"),
        ("/a/", "deny", "trust_too_low: `wipe` needs high, effective is low", "every tool"),
    ]
    assert answer.others.reason == "no_matching_grant"


def test_needed_sessions_are_named() -> None:
    """Where sessions are required, each that serves the caller is told, with its own end."""
    answer = asked(
        grant(subject={"agentID": "a"}, maxTrust="high"),
        session("good", subject={"agentID": "a", "humanID": "h"}, consentedTrust="high"),
        session("weak", subject={"agentID": "a"}, consentedTrust="low"),
        session("ending", subject={"agentID": "a"}, consentedTrust="high", expiresAt=COMING),
        session("over", subject={"agentID": "a"}, consentedTrust="high", expiresAt=PAST),
        session("foreign", subject={"agentID": "b"}, consentedTrust="high"),
        session={"required": True},
    )
    (caller,) = answer.callers
    assert [
        (r.decision.identity.session_id, r.decision.identity.human_id, r.reason.value, r.until)
        for r in caller.rulings
    ] == [
        ("", "", "missing_session", None),
        ("ending", "", "allowed", NOW + 3600),
        ("good", "h", "allowed", None),
        ("weak", "", "trust_too_low", None),
        ("over", "", "session_expired", None),
    ]


def test_a_grants_end_is_told() -> None:
    """The call stops being allowed when the grant expires, unless another one goes on."""
    ending = grant("ending", maxTrust="high", expiresAt=COMING)
    assert asked(ending).callers[0].rulings[0].until == NOW + 3600
    assert asked(ending, grant("lasting", maxTrust="high")).callers[0].rulings[0].until is None


def test_observe_mode_tells_what_would_be() -> None:
    """The call passes; the ruling is what would be decided."""
    answer = asked(grant(maxTrust="low"), policy={"mode": "observe"})
    ruling = answer.callers[0].rulings[0]
    assert (ruling.decision.effect, ruling.effect) == ("allow", "deny")


def test_mode_none_identifies_nobody() -> None:
    """Whatever the grants say, nobody can call a tool."""
    answer = asked(grant(maxTrust="high"), auth={"mode": "none"})
    assert not answer.callers
    assert answer.others.reason == "missing_identity"


def test_a_long_answer_is_cut_and_says_so() -> None:
    """Those who can are shown first, and how many more there are."""
    grants = [grant(f"g{n}", subject={"agentID": f"a{n}"}) for n in range(8)]
    able = grant("able", subject={"agentID": "z"}, maxTrust="high")
    answer = asked(*grants, able, most=3)
    assert [each.subject[1] for each in answer.callers] == ["z", "a0", "a1"]
    assert answer.left_off == 6


@pytest.mark.parametrize("who", [Identity(agent_id="a"), Identity(human_id="h")])
def test_closer_subjects_are_told(who: Identity) -> None:
    """Who asks for an agent hears that there are grants for it together with a human."""
    policy = compiled([server(), grant(subject={"agentID": "a", "humanID": "h"})])
    assert what_can(policy, who, NOW).closer == (("h", "a", ""),)

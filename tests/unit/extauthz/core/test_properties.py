"""The compiled evaluator against a naive one, and laws that hold whatever the policy."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import naive
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from extauthz.core.compile import compile_document
from extauthz.core.decide import Snapshot
from extauthz.core.decision import Decision
from extauthz.core.explain import Outcome, Step, explain
from extauthz.core.request import Call, Identity

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
AGAINST_NAIVE = settings(
    max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
LAWS = settings(AGAINST_NAIVE, max_examples=150)

# Small pools, so that subjects, tools and names meet often.
TOOLS = ("read", "write", "wipe", "plain", "undeclared")
TRUST = st.sampled_from(["", "low", "medium", "high"])
EFFECTS = st.lists(st.sampled_from(["read", "write", "destructive"]), unique=True, max_size=2)
INSTANTS = st.sampled_from(
    ["", "2026-06-01T12:00:00Z", "2026-06-01T14:00:00.000+02:00", "2026-06-01T11:59:59.999Z",
     "2026-06-01T12:00:00.001Z", "2026-06-01T12:00:00.0001Z"]
)  # fmt: skip
SUBJECT = {
    "human_id": st.sampled_from(["", "", "h", "i"]),
    "agent_id": st.sampled_from(["", "a", "b"]),
    "team_id": st.sampled_from(["", "", "t", "u"]),
}
RULES = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(TOOLS),
            "decision": st.sampled_from(["allow", "allow", "deny", ""]),
            "required_trust": TRUST,
        }
    ),
    max_size=3,
)
GRANT = st.fixed_dictionaries(
    {
        **SUBJECT,
        "max_trust": TRUST,
        "allowed_side_effects": EFFECTS,
        "disabled": st.sampled_from([False, False, False, True]),
        "expires_at": INSTANTS,
        "tool_rules": RULES,
    }
)
SESSION = st.fixed_dictionaries(
    {
        **SUBJECT,
        "consented_trust": TRUST,
        "revoked": st.sampled_from([False, False, False, True]),
        "expires_at": INSTANTS,
    }
)
NAMES = st.tuples(st.sampled_from(["ns", "other"]), st.sampled_from("abcdefgh"))


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(NAMES, unique=True, max_size=6))
    grants = [draw(GRANT) | {"namespace": ns, "name": name} for ns, name in names]
    sessions = [draw(SESSION) | {"namespace": "ns", "name": name} for name in ("s1", "s2")]
    return {
        "schema_version": "v1",
        "server": {"name": "srv", "namespace": "ns"},
        "policy": {
            "mode": draw(st.sampled_from(["allow-list", "allow-list", "observe"])),
            "default_decision": draw(st.sampled_from(["deny", "deny", "allow"])),
            "side_effect_guard": draw(st.sampled_from(["whenSet", "whenSet", "required"])),
        },
        "session": {"required": draw(st.booleans())},
        "tools": [
            {"name": "read", "side_effect": "read", "required_trust": draw(TRUST)},
            {"name": "write", "side_effect": "write", "required_trust": draw(TRUST)},
            {"name": "wipe", "side_effect": "destructive", "required_trust": draw(TRUST)},
            {"name": "plain", "required_trust": draw(TRUST)},
        ],
        "grants": grants,
        "sessions": sessions,
    }


CALLERS = st.fixed_dictionaries(
    {**SUBJECT, "session_id": st.sampled_from(["", "s1", "s2", "unknown"])}
)
TOOL = st.sampled_from(TOOLS)


def decide(document: dict[str, Any], tool: str, who: dict[str, str]) -> Decision:
    call = Call(method="tools/call", tool=tool)
    snapshot = Snapshot.of(compile_document(document))
    return snapshot.decide_call(call, Identity(**who), None, NOW.timestamp())


def allowed(document: dict[str, Any]) -> set[tuple[str, ...]]:
    """Every (tool, caller) of the pools that the document allows where it is enforced."""
    enforced = document | {"policy": document["policy"] | {"mode": "allow-list"}}
    snapshot = Snapshot.of(compile_document(enforced))
    return {
        (tool, human, agent, team, session)
        for tool in TOOLS
        for human in ("", "h")
        for agent in ("", "a")
        for team in ("", "t")
        for session in ("", "s1")
        if snapshot.decide_call(
            Call(method="tools/call", tool=tool),
            Identity(human, agent, team, session),
            None,
            NOW.timestamp(),
        ).allowed
    }


@AGAINST_NAIVE
@given(documents(), TOOL, CALLERS)
def test_equals_the_naive_evaluator(
    document: dict[str, Any], tool: str, who: dict[str, str]
) -> None:
    """Effect and reason are what the table, read plainly, gives; the explanation agrees."""
    policy = compile_document(document)
    call = Call(method="tools/call", tool=tool)
    decision = Snapshot.of(policy).decide_call(call, Identity(**who), None, NOW.timestamp())
    would = decision.would and (decision.would.effect.value, decision.would.reason.value)
    told = (decision.effect.value, decision.reason.value, would)
    assert told == naive.decide(document, tool, who, NOW)
    reason = would[1] if would else told[1]
    check_explanation(explain(policy, decision, NOW.timestamp()), reason, document, who)


def check_explanation(
    steps: list[Step], reason: str, document: dict[str, Any], who: dict[str, str]
) -> None:
    """The row that decides holds the decision's reason; only matching grants are named."""
    rows = [step for step in steps if not step.row.startswith("grant ")]
    (deciding,) = [step for step in rows if step.outcome is Outcome.DECIDES]
    assert reason in deciding.detail
    others = {
        f"{grant['namespace']}/{grant['name']}"
        for grant in document["grants"]
        if not naive.matches(grant, who)
    }
    said = {word for step in steps for word in f"{step.row} {step.detail}".split()}
    assert others.isdisjoint(said)


@LAWS
@given(documents(), TOOL, CALLERS)
def test_observe_records_what_would_have_been(
    document: dict[str, Any], tool: str, who: dict[str, str]
) -> None:
    """Observe mode allows, and `would` is what allow-list mode decides."""
    document["policy"]["mode"] = "allow-list"
    enforced = decide(document, tool, who)
    document["policy"]["mode"] = "observe"
    observed = decide(document, tool, who)
    assert observed.allowed
    assert observed.would is not None
    assert (observed.would.effect, observed.would.reason) == (enforced.effect, enforced.reason)


@LAWS
@given(documents(), st.data())
def test_order_of_grants_never_matters(document: dict[str, Any], data: st.DataObject) -> None:
    """Any order of the same grants decides alike."""
    shuffled = document | {"grants": data.draw(st.permutations(document["grants"]))}
    assert allowed(document) == allowed(shuffled)


def law(name: str, change: Callable[[dict[str, Any], st.DataObject], None]) -> Any:
    """A test that `change` never allows a call that was denied."""

    @LAWS
    @given(documents(), st.data())
    def test(document: dict[str, Any], data: st.DataObject) -> None:
        before = allowed(document)
        change(document, data)
        assert allowed(document) <= before

    test.__doc__ = name
    return test


def _some(items: list[Any], data: st.DataObject) -> dict[str, Any]:
    assume(items)
    found: dict[str, Any] = data.draw(st.sampled_from(items))
    return found


def _lower_trust(document: dict[str, Any], data: st.DataObject) -> None:
    _some(document["grants"], data)["max_trust"] = "low"


def _lower_consent(document: dict[str, Any], data: st.DataObject) -> None:
    _some(document["sessions"], data)["consented_trust"] = "low"


def _raise_requirement(document: dict[str, Any], data: st.DataObject) -> None:
    _some(document["tools"], data)["required_trust"] = "high"


def _revoke(document: dict[str, Any], data: st.DataObject) -> None:
    _some(document["sessions"], data)["revoked"] = True


def _deny_in_a_grant_of_its_own(document: dict[str, Any], data: st.DataObject) -> None:
    """Under default deny; under default allow a new grant also takes its subject off row 6a."""
    document["policy"]["default_decision"] = "deny"
    rule = {"name": data.draw(TOOL), "decision": "deny"}
    subject = {field: data.draw(values) for field, values in SUBJECT.items()}
    document["grants"].append({"name": "deny", "namespace": "zz", "tool_rules": [rule]} | subject)


test_lowering_a_grants_trust = law("Less trust never allows more.", _lower_trust)
test_lowering_consent = law("Less consent never allows more.", _lower_consent)
test_raising_a_requirement = law("A tool that needs more trust never opens.", _raise_requirement)
test_revoking = law("Revoking never allows more.", _revoke)


@LAWS
@given(documents(), st.data())
def test_a_deny_rule_never_opens_its_tool(document: dict[str, Any], data: st.DataObject) -> None:
    """A deny rule never allows more calls of its tool; under default deny, of none at all."""
    grant = _some(document["grants"], data)
    before, tool = allowed(document), data.draw(TOOL)
    grant["tool_rules"] = [*grant["tool_rules"], {"name": tool, "decision": "deny"}]
    opened = allowed(document) - before
    assert all(call[0] != tool for call in opened)
    if document["policy"]["default_decision"] == "deny":
        assert not opened


@LAWS
@given(documents(), st.data())
def test_a_new_deny_grant_never_opens_anything(
    document: dict[str, Any], data: st.DataObject
) -> None:
    """Under default deny, one more grant that only denies allows nothing new."""
    document["policy"]["default_decision"] = "deny"
    before = allowed(document)
    _deny_in_a_grant_of_its_own(document, data)
    assert allowed(document) <= before


@LAWS
@given(documents(), CALLERS, TOOL)
def test_revoking_the_named_session_denies(
    document: dict[str, Any], who: dict[str, str], tool: str
) -> None:
    """A call that names its own revoked session is denied, where policy is enforced."""
    document["policy"]["mode"] = "allow-list"
    for session in document["sessions"]:
        session["revoked"] = True
        if session["name"] == who["session_id"] and naive.matches(session, who):
            assert not decide(document, tool, who).allowed

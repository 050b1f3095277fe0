"""The decision table from row 2 on: every row, and every pair of neighbouring rows."""

import itertools
from typing import Any

import pytest

from extauthz.core.compile import compile_document
from extauthz.core.decide import Snapshot
from extauthz.core.decision import Decision
from extauthz.core.reasons import Reason
from extauthz.core.request import Call, Identity, Kind
from extauthz.core.times import format_instant

NOW = 1_800_000_000.0
PAST, FUTURE, INSTANT = (format_instant(NOW + d) for d in (-1, 1, 0))

TOOLS = [
    {"name": "read_low", "side_effect": "read"},
    {"name": "write_medium", "required_trust": "medium", "side_effect": "write"},
    {"name": "destroy_high", "required_trust": "high", "side_effect": "destructive"},
    {"name": "unclassed"},
]


def grant(name: str = "g", **members: Any) -> dict[str, Any]:
    """A grant for agent `a` with high trust on everything, but for `members`."""
    return {"name": name, "namespace": "ns", "agent_id": "a", "max_trust": "high"} | members


def session(name: str = "s", **members: Any) -> dict[str, Any]:
    """A session of agent `a` with high consent."""
    return {"name": name, "namespace": "ns", "agent_id": "a", "consented_trust": "high"} | members


def rule(tool: str, decision: str = "allow", trust: str = "") -> dict[str, str]:
    return {"name": tool, "decision": decision, "required_trust": trust}


def document(
    *grants: dict[str, Any], sessions: tuple[dict[str, Any], ...] = (), **policy: Any
) -> dict[str, Any]:
    """A document of these grants; `required` is the session's, the rest the policy's."""
    required = policy.pop("required", False)
    return {
        "schema_version": "v1",
        "server": {"name": "srv", "namespace": "ns"},
        "policy": policy,
        "session": {"required": required},
        "tools": TOOLS,
        "grants": list(grants),
        "sessions": list(sessions),
    }


def decide(
    doc: dict[str, Any],
    tool: str = "read_low",
    *,
    agent: str = "a",
    human: str = "",
    team: str = "",
    named: str = "",
    method: str = "tools/call",
    kind: Kind = Kind.REQUEST,
    now: float = NOW,
) -> Decision:
    call = Call(kind=kind, method=method, tool=tool if method == "tools/call" else "")
    identity = Identity(human, agent, team, named)
    return Snapshot.of(compile_document(doc)).decide_call(call, identity, None, now)


def outcome(decision: Decision) -> tuple[str, str]:
    return decision.effect.value, decision.reason.value


def check(doc: dict[str, Any], effect: str, reason: str, **asked: Any) -> Decision:
    decision = decide(doc, **asked)
    assert outcome(decision) == (effect, reason)
    return decision


# One violation per row, as changes to a request that would be allowed; ordered as the table.
VIOLATIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("4", "missing_identity", {"asked": {"agent": ""}}),
    ("5", "session_not_found", {"required": True, "asked": {"named": "other"}}),
    ("6", "grant_disabled", {"every": {"disabled": True}}),
    ("7", "tool_denied", {"grants": [{}, {"tool_rules": [rule("destroy_high", "deny")]}]}),
    ("8", "tool_not_granted", {"grants": [{"tool_rules": [rule("read_low")]}]}),
    ("9", "side_effect_not_allowed", {"grants": [{"allowed_side_effects": ["read"]}]}),
    ("10", "trust_too_low", {"grants": [{"max_trust": "low"}]}),
]


def violate(*changes: dict[str, Any]) -> Decision:
    """Decide a call of destroy_high that is allowed but for `changes`, all at once."""
    grants: list[dict[str, Any]] = [{}]
    asked: dict[str, Any] = {}
    required = False
    every: dict[str, Any] = {}
    for change in changes:
        every |= change.get("every", {})
        for i, members in enumerate(change.get("grants", [])):
            if i == len(grants):
                grants.append({})
            grants[i] = grants[i] | members
        asked |= change.get("asked", {})
        required = required or change.get("required", False)
    doc = document(*(grant(f"g{i}", **m, **every) for i, m in enumerate(grants)), required=required)
    return decide(doc, "destroy_high", **asked)


class TestRows:
    def test_allowed(self) -> None:
        """Without a violation the call is allowed (row 11)."""
        assert outcome(violate()) == ("allow", "allowed")

    @pytest.mark.parametrize(("row", "reason", "change"), VIOLATIONS)
    def test_each_row_alone(self, row: str, reason: str, change: dict[str, Any]) -> None:
        """Each violation alone denies with its own row's reason."""
        assert outcome(violate(change)) == ("deny", reason)

    @pytest.mark.parametrize(("first", "second"), list(itertools.pairwise(VIOLATIONS)))
    def test_the_earlier_of_two_neighbours_speaks(
        self, first: tuple[str, str, dict[str, Any]], second: tuple[str, str, dict[str, Any]]
    ) -> None:
        """With two rows violated the first row that applies gives the reason."""
        assert violate(first[2], second[2]).reason.value == first[1]

    def test_no_policy(self) -> None:
        """Row 2: without a valid document every call is denied, other methods too."""
        nothing = Snapshot.unavailable(compile_document(document()).facts, "no document")
        for method in ("tools/call", "tools/list"):
            decision = nothing.decide_call(Call(method=method), Identity(agent_id="a"), None, NOW)
            assert outcome(decision) == ("deny", "policy_unavailable")

    def test_stale_policy(self) -> None:
        """Row 2: older than maxStaleness denies; exactly as old does not."""
        doc = document(grant(), max_staleness="10s") | {"generated_at": format_instant(NOW)}
        check(doc, "allow", "allowed", now=NOW + 10)
        check(doc, "deny", "policy_stale", now=NOW + 10.001)
        check(doc, "deny", "policy_stale", now=NOW + 11, method="tools/list")

    def test_policy_of_the_future(self) -> None:
        """A clock that was set back, or a wrong date, does not keep a policy fresh for ever."""
        doc = document(grant(), max_staleness="10s") | {"generated_at": format_instant(NOW)}
        check(doc, "allow", "allowed", now=NOW - 10)
        check(doc, "deny", "policy_stale", now=NOW - 10.001)

    def test_untrusted_peer(self) -> None:
        """Row 2a: identity headers count only from trusted peers."""
        doc = document(grant()) | {"auth": {"mode": "header", "trusted_peers": ["10.1.0.0/16"]}}
        snapshot = Snapshot.of(compile_document(doc))
        for peer, effect in [
            ("10.1.2.3", "allow"),
            ("::ffff:10.1.2.3", "allow"),
            ("10.2.0.1", "deny"),
            ("", "deny"),
            ("not an address", "deny"),
        ]:
            call = Call(method="tools/call", tool="read_low")
            decision = snapshot.decide_call(call, Identity(agent_id="a"), peer, NOW)
            assert decision.effect.value == effect
            assert effect == "allow" or decision.reason is Reason.UNTRUSTED_PEER

    @pytest.mark.parametrize("method", ["tools/list", "initialize", "ping", "resources/read"])
    def test_not_a_tool_call(self, method: str) -> None:
        """Row 3: what MCP knows and is no tool call passes, for nobody too."""
        check(document(), "allow", "not_tool_call", method=method, agent="")

    @pytest.mark.parametrize("kind", [Kind.RESPONSE, Kind.NONE])
    def test_responses_and_bodiless(self, kind: Kind) -> None:
        """Row 3: responses and GET or DELETE carry no call."""
        check(document(), "allow", "not_tool_call", method="", kind=kind)

    @pytest.mark.parametrize(
        ("method", "kind"),
        [
            ("tools/invoke", Kind.REQUEST),
            ("tools/list", Kind.NOTIFICATION),
            ("notifications/initialized", Kind.REQUEST),
        ],
    )
    def test_unknown_method(self, method: str, kind: Kind) -> None:
        """Row 3a: a method MCP does not know passes or not by unknownMethods."""
        check(document(), "allow", "unknown_method", method=method, kind=kind)
        denying = document(unknown_methods="deny")
        check(denying, "deny", "unknown_method", method=method, kind=kind)

    def test_call_tool_counts_as_tools_call(self) -> None:
        """mcp-runtime's older spelling is governed alike."""
        doc = document(grant(tool_rules=[rule("read_low", "deny")]))
        call = Call(method="call_tool", tool="read_low")
        decision = Snapshot.of(compile_document(doc)).decide_call(
            call, Identity(agent_id="a"), None, NOW
        )
        assert decision.reason is Reason.TOOL_DENIED

    def test_a_session_alone_identifies_nobody(self) -> None:
        """Row 4 comes before row 5."""
        doc = document(grant(), sessions=(session(),), required=True)
        check(doc, "deny", "missing_identity", agent="", named="s")


class TestSessions:
    def test_required_session(self) -> None:
        """Row 5: none given; unknown; another subject's; the caller's own."""
        own, others = session(), session("t", agent_id="b")
        doc = document(grant(), sessions=(own, others), required=True)
        check(doc, "deny", "missing_session")
        check(doc, "deny", "session_not_found", named="unknown")
        check(doc, "deny", "session_not_found", named="t")
        assert str(check(doc, "allow", "allowed", named="s").session) == "ns/s"

    @pytest.mark.parametrize("required", [True, False])
    def test_revoked_or_expired(self, required: bool) -> None:
        """Row 5a: the caller's own session, required or not; revoked comes first."""
        for members, reason in [
            ({"revoked": True}, "session_revoked"),
            ({"expires_at": PAST}, "session_expired"),
            ({"expires_at": INSTANT}, "session_expired"),
            ({"expires_at": PAST, "revoked": True}, "session_revoked"),
        ]:
            doc = document(grant(), sessions=(session(**members),), required=required)
            check(doc, "deny", reason, named="s")
        doc = document(grant(), sessions=(session(expires_at=FUTURE),), required=required)
        check(doc, "allow", "allowed", named="s")

    def test_optional_session_of_another_counts_for_nothing(self) -> None:
        """A session that is not required and not the caller's neither helps nor harms."""
        doc = document(grant(), sessions=(session(agent_id="b", revoked=True),))
        assert check(doc, "allow", "allowed", named="s").session is None

    def test_session_with_empty_subject_is_nobodys(self) -> None:
        """An empty subject matches nobody, for sessions too."""
        doc = document(grant(), sessions=(session(agent_id=""),), required=True)
        check(doc, "deny", "session_not_found", named="s")


class TestGrants:
    def test_matching_subjects(self) -> None:
        """A subject matches when every field that it sets is equal, exactly."""
        doc = document(grant(human_id="h", team_id="t"))
        check(doc, "allow", "allowed", human="h", team="t")
        for human, agent, team in [
            ("h", "a", ""),
            ("", "a", "t"),
            ("h", "b", "t"),
            ("H", "a", "t"),
        ]:
            check(doc, "deny", "no_matching_grant", human=human, agent=agent, team=team)
        for by in ("human", "agent", "team"):
            alone = document(grant(**{"agent_id": "", f"{by}_id": "x"}))
            check(alone, "allow", "allowed", **({"agent": ""} | {by: "x"}))

    def test_empty_subject_and_star(self) -> None:
        """An empty subject matches nobody, and `*` is a literal."""
        check(document(grant(agent_id="")), "deny", "no_matching_grant")
        check(document(grant(agent_id="*")), "deny", "no_matching_grant")
        check(document(grant(agent_id="*")), "allow", "allowed", agent="*")
        starred = document(grant(tool_rules=[rule("*")]))
        check(starred, "deny", "tool_not_granted")

    def test_row_6_ignores_the_default(self) -> None:
        """Only disabled or expired grants match: denied, whatever the default."""
        for members, reason in [
            ({"disabled": True}, "grant_disabled"),
            ({"expires_at": INSTANT}, "grant_expired"),
            ({"disabled": True, "expires_at": PAST}, "grant_disabled"),
        ]:
            check(document(grant(**members), default_decision="allow"), "deny", reason)
        check(document(grant(expires_at=FUTURE)), "allow", "allowed")

    def test_row_6_speaks_for_the_first_by_name(self) -> None:
        """Of several dead grants the first by namespace and name gives the reason."""
        dead = [grant("b", disabled=True), grant("a", expires_at=PAST)]
        assert str(check(document(*dead), "deny", "grant_expired").grant) == "ns/a"

    @pytest.mark.parametrize("default", ["allow", "deny"])
    def test_defaults(self, default: str) -> None:
        """Rows 6a and 8 fall to the default decision."""
        check(document(default_decision=default), default, "no_matching_grant")
        narrow = document(grant(tool_rules=[rule("write_medium")]), default_decision=default)
        check(narrow, default, "tool_not_granted")

    def test_deny_rule_wins(self) -> None:
        """Row 7: one matching grant that denies outweighs any that allow, but not a dead one."""
        denying = grant("z", tool_rules=[rule("read_low", "deny")])
        check(document(grant("a"), denying), "deny", "tool_denied")
        check(document(grant("a"), denying | {"disabled": True}), "allow", "allowed")
        check(document(grant("a"), denying | {"expires_at": PAST}), "allow", "allowed")
        check(document(grant("a"), denying, default_decision="allow"), "deny", "tool_denied")

    def test_grant_with_rules_covers_only_those(self) -> None:
        """A grant of deny rules alone allows nothing."""
        only = document(grant(tool_rules=[rule("write_medium", "deny")]))
        check(only, "deny", "tool_not_granted")

    def test_side_effects(self) -> None:
        """Row 9, guard whenSet: only grants that list classes limit them."""
        limited = document(grant(allowed_side_effects=["read"]))
        check(limited, "allow", "allowed")
        check(limited, "deny", "side_effect_not_allowed", tool="write_medium")
        check(limited, "deny", "tool_side_effect_unknown", tool="unclassed")
        check(limited, "deny", "tool_side_effect_unknown", tool="undeclared")
        check(document(grant()), "allow", "allowed", tool="undeclared")
        check(document(grant(allowed_side_effects=[])), "allow", "allowed")

    def test_side_effect_guard_required(self) -> None:
        """Row 9, guard required: a grant allows no class that it does not list."""
        guarded = document(grant(), side_effect_guard="required")
        check(guarded, "deny", "side_effect_not_allowed")
        check(guarded, "deny", "tool_side_effect_unknown", tool="unclassed")
        listed = document(grant(allowed_side_effects=["read"]), side_effect_guard="required")
        check(listed, "allow", "allowed")

    def test_trust(self) -> None:
        """Row 10: min(grant, session) against max(tool, rule); unset trust is low."""
        for admin, consented, required, effect in [
            ("high", "", "high", "allow"),
            ("medium", "", "high", "deny"),
            ("", "", "low", "allow"),
            ("", "", "medium", "deny"),
            ("high", "medium", "high", "deny"),
            ("high", "high", "high", "allow"),
            ("low", "high", "medium", "deny"),
        ]:
            made = grant(max_trust=admin, tool_rules=[rule("read_low", trust=required)])
            sessions = (session(consented_trust=consented),) if consented else ()
            decision = decide(document(made, sessions=sessions), named="s")
            assert decision.effect.value == effect
            assert decision.trust.required == required
        check(document(grant(max_trust="medium")), "deny", "trust_too_low", tool="destroy_high")

    def test_rule_never_lowers_the_tools_own_trust(self) -> None:
        """The higher of the tool's and the rule's requirement counts."""
        doc = document(grant(max_trust="low", tool_rules=[rule("destroy_high", trust="low")]))
        check(doc, "deny", "trust_too_low", tool="destroy_high")

    def test_each_grant_stands_alone(self) -> None:
        """One grant's trust never helps another's side effects."""
        trusted = grant("t", allowed_side_effects=["read"])
        allowing = grant("s", max_trust="low")
        check(document(trusted, allowing), "deny", "trust_too_low", tool="destroy_high")
        check(document(trusted, allowing, grant("x")), "allow", "allowed", tool="destroy_high")

    def test_the_furthest_grant_speaks(self) -> None:
        """Of several that fail: row 10 over row 9, then namespace and name."""
        effects = grant("a", allowed_side_effects=["read"])
        low, lower = grant("c", max_trust="low"), grant("b", max_trust="medium")
        decision = decide(document(effects, low, lower), "destroy_high")
        assert (decision.reason.value, str(decision.grant)) == ("trust_too_low", "ns/b")
        assert decision.trust.effective == "medium"

    def test_names_compare_exactly(self) -> None:
        """No case folding, no trimming, no Unicode normal forms."""
        doc = document(grant(tool_rules=[rule("caf\u00e9")]))
        check(doc, "allow", "allowed", tool="caf\u00e9")
        for near in ("cafe\u0301", "CAF\u00c9", " caf\u00e9", "caf\u00e9\x00"):
            check(doc, "deny", "tool_not_granted", tool=near)

    def test_many_grants_of_one_subject(self) -> None:
        """A subject with many grants is decided as one with few."""
        many = [grant(f"g{i}", tool_rules=[rule(f"tool{i}")]) for i in range(200)]
        doc = document(*many, grant("open", max_trust="low"))
        assert str(check(doc, "allow", "allowed", tool="tool150").grant) == "ns/g150"
        assert str(check(doc, "allow", "allowed").grant) == "ns/open"
        denied = document(*many, grant("z", tool_rules=[rule("tool150", "deny")]))
        check(denied, "deny", "tool_denied", tool="tool150")
        dead = document(*(g | {"disabled": True} for g in many))
        check(dead, "deny", "grant_disabled", tool="tool3")

    def test_policy_version_is_the_grants_else_the_policys(self) -> None:
        """The version that an event shows names who decided."""
        doc = document(grant(policy_version="v7"), policy_version="v1")
        assert decide(doc).policy_version == "v7"
        assert decide(document(policy_version="v1")).policy_version == "v1"

    def test_risk_is_declared_or_derived(self) -> None:
        """A tool that declares no risk has the one that follows from trust and side effect."""
        found = [decide(document(), tool["name"]).risk for tool in TOOLS]
        assert found == ["low", "medium", "high", ""]


class TestObserve:
    @pytest.mark.parametrize(("row", "reason", "change"), VIOLATIONS)
    def test_rows_4_to_10_pass_and_are_recorded(
        self, row: str, reason: str, change: dict[str, Any]
    ) -> None:
        """Observe lets pass what would be denied, and says what that would have been."""
        grants = change.get("grants", [change.get("every", {})])
        doc = document(
            *(grant(f"g{i}", **members) for i, members in enumerate(grants)),
            mode="observe",
            required=change.get("required", False),
        )
        decision = decide(doc, "destroy_high", **change.get("asked", {}))
        assert outcome(decision) == ("allow", "allowed")
        assert decision.would is not None
        assert (decision.would.effect.value, decision.would.reason.value) == ("deny", reason)

    def test_stale_denies_in_observe_too(self) -> None:
        """Rows 1 to 2b deny in every mode."""
        doc = document(grant(), mode="observe", max_staleness="1s")
        doc |= {"generated_at": format_instant(NOW)}
        assert check(doc, "deny", "policy_stale", now=NOW + 2).would is None

    def test_allowed_says_so(self) -> None:
        """What would be allowed anyway is recorded as such."""
        decision = decide(document(grant(), mode="observe"))
        assert decision.would is not None
        assert decision.would.reason is Reason.ALLOWED

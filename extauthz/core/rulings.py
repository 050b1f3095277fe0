"""One call put to the policy: what it gets, by which grant and rule, and for how long. Pure."""

import math
from dataclasses import dataclass

from extauthz.core.decision import Decision, Effect
from extauthz.core.evaluate import evaluate
from extauthz.core.explain import Outcome, explain
from extauthz.core.policy import LEVELS, Grant, Policy, SubjectKey
from extauthz.core.reasons import Reason
from extauthz.core.request import Call, Identity


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one call gets.

    Args:
        decision: the evaluator's own; it names the caller, the session and the grant.
        why: the row of the decision table that decided, in words.
        rule: how the deciding grant covers the tool: `refund:allow:high`, or `every tool`; empty
            where no grant decided.
        until: when the effect changes although nobody edits anything, seconds since the epoch;
            None for never.
    """

    decision: Decision
    why: str
    rule: str
    until: float | None

    @property
    def effect(self) -> Effect:
        """As enforced; in mode observe as it would be."""
        return enforced(self.decision)[0]

    @property
    def reason(self) -> Reason:
        """As enforced; in mode observe as it would be."""
        return enforced(self.decision)[1]

    @property
    def allows(self) -> bool:
        return self.effect is Effect.ALLOW


def rule(policy: Policy, tool: str, caller: Identity, now: float) -> Ruling:
    """Put the call of `tool` by `caller` at `now` (seconds since the epoch) to the policy."""
    decision = decide(policy, tool, caller, now)
    steps = explain(policy, decision, now)
    why = next(step.detail for step in steps if step.outcome is Outcome.DECIDES)
    return Ruling(
        decision, why, _rule(policy, decision), _until(policy, tool, caller, now, decision)
    )


def decide(policy: Policy, tool: str, caller: Identity, now: float) -> Decision:
    """The decision alone; the policy counts as current, the caller as identified."""
    call = Call(method="tools/call", tool=tool)
    return evaluate(policy, call, caller, peer=None, now=now, as_of=now)


def enforced(decision: Decision) -> tuple[Effect, Reason]:
    """What is decided; in mode observe what would be."""
    said = decision.would or decision
    return said.effect, said.reason


def _rule(policy: Policy, decision: Decision) -> str:
    tool = decision.call.tool
    grant = _deciding(policy, decision)
    if grant is None or (found := grant.rule_for(tool)) is None:
        return ""
    if grant.rules is None:
        return "every tool"
    parts = (tool, "deny" if found.deny else "allow", LEVELS.get(found.rank, ""))
    return ":".join(filter(None, parts))


def _deciding(policy: Policy, decision: Decision) -> Grant | None:
    matching = policy.matching(decision.identity)
    return next(
        (grant for found in matching for grant in found.grants if grant.ref == decision.grant), None
    )


def _until(
    policy: Policy, tool: str, caller: Identity, now: float, decision: Decision
) -> float | None:
    effect = enforced(decision)[0]
    matching = policy.matching(caller)
    ends = {grant.expires_at for found in matching for grant in found.for_tool(tool)}
    ends |= {found.live_until for found in matching}
    if session := policy.sessions.get(caller.session_id):
        ends.add(session.expires_at)
    for end in sorted(end for end in ends if now < end < math.inf):
        if enforced(decide(policy, tool, caller, end))[0] is not effect:
            return end
    return None


def merged(one: SubjectKey, other: SubjectKey) -> SubjectKey | None:
    """The least that both fit; None where they contradict each other."""
    found = []
    for mine, yours in zip(one, other, strict=True):
        if mine and yours and mine != yours:
            return None
        found.append(mine or yours)
    return found[0], found[1], found[2]


def fits(subject: SubjectKey, caller: SubjectKey) -> bool:
    """Whether every field that the subject sets is the caller's."""
    return all(mine in ("", yours) for mine, yours in zip(subject, caller, strict=True))

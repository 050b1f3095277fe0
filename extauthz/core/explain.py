"""Tells a decision row by row, from the same policy and the same rules that made it.

Only grants that match the caller are named: nobody else's grant ever shows.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import msgspec

from extauthz.core.decision import Decision, Effect, ObjectRef
from extauthz.core.evaluate import weigh_grant
from extauthz.core.policy import LEVELS, UNDECLARED, Grant, Policy, Rule, Session, Tool, order
from extauthz.core.reasons import Reason
from extauthz.core.table import TABLE

MAX_GRANTS = 50  # so many are told, in the order of namespace and name


class Outcome(StrEnum):
    """What became of a row."""

    HOLDS = "holds"  # the condition holds; on to the next row
    DECIDES = "decides"  # the first row that applied
    SKIPPED = "skipped"  # another row decided before
    SAYS = "says"  # a grant that did not decide


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the table, told. `detail` is empty where there is nothing to add."""

    row: str
    condition: str
    outcome: Outcome
    detail: str = ""


def told(decision: Decision, steps: list[Step]) -> dict[str, Any]:
    """A decision and the rows up to the one that decided, as JSON types."""
    said: dict[str, Any] = {"effect": decision.effect.value, "reason": decision.reason.value}
    if decision.would:
        would = decision.would
        said["would"] = {"effect": would.effect.value, "reason": would.reason.value}
    return said | {
        "trust": msgspec.structs.asdict(decision.trust),
        "grant": _named(decision.grant),
        "session": _named(decision.session),
        "explanation": [asdict(step) for step in steps if step.outcome is not Outcome.SKIPPED],
    }


def explain(policy: Policy | None, decision: Decision, now: float) -> list[Step]:
    """Tell `decision`, which `policy` made at `now`, as the rows of the decision table.

    Args:
        policy: the policy that decided; None where there was none.
        decision: its decision.
        now: the instant of the decision, seconds since the epoch.
    """
    reason = decision.would.reason if decision.would else decision.reason
    steps: list[Step] = []
    outcome = Outcome.HOLDS
    for row in TABLE:
        if reason in row.reasons:
            steps.append(Step(row.number, row.condition, Outcome.DECIDES, _why(decision, reason)))
            outcome = Outcome.SKIPPED
            continue
        steps.append(Step(row.number, row.condition, outcome))
    if outcome is not Outcome.SKIPPED:  # the gate itself failed, beside the table
        return [Step("-", "the gate works", Outcome.DECIDES, _why(decision, reason))]
    if policy and decision.call.is_tool_call and reason in _ABOUT_GRANTS:
        steps += _grants(policy, decision, now)
    return steps


def _named(found: ObjectRef | None) -> dict[str, str] | None:
    return {"namespace": found.namespace, "name": found.name} if found else None


_ABOUT_GRANTS = frozenset(
    reason
    for row in TABLE[TABLE.index(next(r for r in TABLE if r.number == "6")) :]
    for reason in row.reasons
)


def _why(decision: Decision, reason: Reason) -> str:
    """The deciding row in one sentence."""
    if decision.detail:
        return f"{reason}: {decision.detail}"
    trust, tool = decision.trust, decision.call.tool
    words = {
        Reason.GRANT_DISABLED: f"grant {decision.grant} is disabled",
        Reason.GRANT_EXPIRED: f"grant {decision.grant} has expired",
        Reason.TOOL_DENIED: f"grant {decision.grant} denies `{tool}`",
        Reason.SESSION_REVOKED: f"session {decision.session} is revoked",
        Reason.SESSION_EXPIRED: f"session {decision.session} has expired",
        Reason.SIDE_EFFECT_NOT_ALLOWED: f"`{tool}` is {decision.side_effect}",
        Reason.TRUST_TOO_LOW: f"`{tool}` needs {trust.required}, effective is {trust.effective}",
        Reason.ALLOWED: f"grant {decision.grant} allows `{tool}`",
    }
    effect = decision.would.effect if decision.would else decision.effect
    defaulted = reason in {Reason.NO_MATCHING_GRANT, Reason.TOOL_NOT_GRANTED}
    text = words.get(reason, f"default decision: {effect}" if defaulted else "")
    observed = " (observed, not enforced)" if decision.would and effect is Effect.DENY else ""
    return f"{reason}: {text}{observed}" if text else f"{reason}{observed}"


def _grants(policy: Policy, decision: Decision, now: float) -> list[Step]:
    """What each grant for the caller says by itself."""
    session = policy.sessions.get(decision.identity.session_id) if decision.session else None
    tool = policy.tools.get(decision.call.tool, UNDECLARED)
    found = [grant for group in policy.matching(decision.identity) for grant in group.grants]
    found.sort(key=order)
    return [
        Step(
            f"grant {grant.ref}",
            "what this grant says by itself",
            Outcome.DECIDES if grant.ref == decision.grant else Outcome.SAYS,
            _say(policy, tool, grant, grant.rule_for(decision.call.tool), session)
            if grant.is_live(now)
            else ("disabled" if grant.disabled else "expired"),
        )
        for grant in found[:MAX_GRANTS]
    ]


def _say(
    policy: Policy, tool: Tool, grant: Grant, rule: Rule | None, session: Session | None
) -> str:
    if rule is None:
        return "does not cover the tool"
    if rule.deny:
        return "denies the tool"
    reason = weigh_grant(policy, tool, grant, rule, session)
    effective = LEVELS[min(grant.rank, session.rank) if session else grant.rank]
    if reason is Reason.TRUST_TOO_LOW:
        return f"trust_too_low: {effective} of {LEVELS[max(tool.rank, rule.rank)]}"
    return reason.value

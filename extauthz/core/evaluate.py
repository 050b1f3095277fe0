"""The decision table from row 2 on (docs/decisions.md): pure, and it never raises for input.

Rows 3a to 11 cost the same with ten grants and with a hundred thousand.
"""

from msgspec.structs import replace

from extauthz.core.decision import Decision, Effect, Trust, Would
from extauthz.core.identity import is_trusted_peer
from extauthz.core.methods import NOTIFICATIONS, REQUESTS
from extauthz.core.policy import LEVELS, UNDECLARED, Grant, Policy, Rule, Session, Tool, order
from extauthz.core.reasons import Reason
from extauthz.core.request import Call, Identity, Kind
from extauthz.core.tokens import TokenRefusal

# A member of an enum is slow to look up on its class.
ALLOW, DENY = Effect.ALLOW, Effect.DENY
_ALLOWED = Reason.ALLOWED


def evaluate(
    policy: Policy,
    call: Call,
    identity: Identity,
    *,
    peer: str | None,
    now: float,
    as_of: float,
    unverified: TokenRefusal | None = None,
) -> Decision:
    """Decide what has been read.

    Args:
        policy: the running policy.
        call, identity: from the parse.
        peer: IP address of the direct peer; None where there is none (offline).
        now: seconds since the epoch.
        as_of: when the policy was last known to be current, likewise.
        unverified: in mode oauth, why the token names nobody.
    """
    if abs(now - as_of) > policy.max_staleness:  # a date to come would never grow old
        return _decide(policy, call, identity, DENY, Reason.POLICY_STALE)
    if peer is not None and not is_trusted_peer(policy, peer):
        return _decide(policy, call, identity, DENY, Reason.UNTRUSTED_PEER)
    if unverified is not None:
        decision = _decide(policy, call, identity, DENY, unverified.reason)
        return replace(decision, detail=unverified.detail)
    if not call.is_tool_call:
        return _observed(policy, _other_method(policy, call, identity))
    return _observed(policy, _tool_call(policy, call, identity, now))


def _other_method(policy: Policy, call: Call, identity: Identity) -> Decision:
    known = (
        call.kind in {Kind.RESPONSE, Kind.NONE}
        or (call.kind is Kind.REQUEST and call.method in REQUESTS)
        or (call.kind is Kind.NOTIFICATION and call.method in NOTIFICATIONS)
    )
    if known:
        return _decide(policy, call, identity, ALLOW, Reason.NOT_TOOL_CALL)
    return _decide(policy, call, identity, policy.unknown_methods, Reason.UNKNOWN_METHOD)


def _tool_call(policy: Policy, call: Call, identity: Identity, now: float) -> Decision:
    if identity.is_empty:
        return _decide(policy, call, identity, DENY, Reason.MISSING_IDENTITY)
    session = policy.sessions.get(identity.session_id) if identity.session_id else None
    if session and not session.is_for(identity):
        session = None
    if refusal := _session_refusal(policy, identity, session, now):
        return _decide(policy, call, identity, DENY, refusal, session=session)
    matching = policy.matching(identity)
    if not matching:
        return _decide(
            policy, call, identity, policy.default, Reason.NO_MATCHING_GRANT, session=session
        )
    if now >= max([found.live_until for found in matching]):
        first = min((found.grants[0] for found in matching), key=order)
        reason = Reason.GRANT_DISABLED if first.disabled else Reason.GRANT_EXPIRED
        return _decide(policy, call, identity, DENY, reason, grant=first, session=session)
    live = [
        (grant, rule)
        for found in matching
        for grant in found.for_tool(call.tool)
        if (rule := grant.rule_for(call.tool)) and grant.is_live(now)
    ]
    if len(live) > 1:
        live.sort(key=lambda pair: order(pair[0]))
    for grant, rule in live:
        if rule.deny:
            return _decide(
                policy, call, identity, DENY, Reason.TOOL_DENIED, grant=grant, session=session
            )
    if not live:
        return _decide(
            policy, call, identity, policy.default, Reason.TOOL_NOT_GRANTED, session=session
        )
    return _weigh(policy, call, identity, live, session)


def _session_refusal(
    policy: Policy, identity: Identity, session: Session | None, now: float
) -> Reason | None:
    """Rows 5 and 5a; `session` is the subject's own or None."""
    if session is None:
        if not policy.session_required:
            return None
        return Reason.SESSION_NOT_FOUND if identity.session_id else Reason.MISSING_SESSION
    if session.revoked:
        return Reason.SESSION_REVOKED
    return Reason.SESSION_EXPIRED if now >= session.expires_at else None


def _weigh(
    policy: Policy,
    call: Call,
    identity: Identity,
    covering: list[tuple[Grant, Rule]],
    session: Session | None,
) -> Decision:
    """Rows 9 to 11: each grant stands alone; of those that fail the furthest one speaks."""
    tool = policy.tools.get(call.tool, UNDECLARED)
    furthest: tuple[Reason, Grant, Rule] | None = None
    for grant, rule in covering:
        reason = weigh_grant(policy, tool, grant, rule, session)
        if reason is _ALLOWED:
            return _weighed(policy, call, identity, (reason, grant, rule), session)
        if furthest is None or (
            reason is Reason.TRUST_TOO_LOW and furthest[0] is not Reason.TRUST_TOO_LOW
        ):
            furthest = (reason, grant, rule)
    assert furthest is not None  # `covering` is never empty
    return _weighed(policy, call, identity, furthest, session)


def weigh_grant(
    policy: Policy, tool: Tool, grant: Grant, rule: Rule, session: Session | None
) -> Reason:
    """What one covering grant by itself says (rows 9 to 11)."""
    guarded = bool(grant.effects) or policy.guard_required
    if guarded and tool.side_effect not in grant.effects:
        known = bool(tool.side_effect)
        return Reason.SIDE_EFFECT_NOT_ALLOWED if known else Reason.TOOL_SIDE_EFFECT_UNKNOWN
    effective = min(grant.rank, session.rank) if session else grant.rank
    return Reason.TRUST_TOO_LOW if effective < max(tool.rank, rule.rank) else _ALLOWED


def _weighed(
    policy: Policy,
    call: Call,
    identity: Identity,
    outcome: tuple[Reason, Grant, Rule],
    session: Session | None,
) -> Decision:
    reason, grant, rule = outcome
    tool = policy.tools.get(call.tool, UNDECLARED)
    trust = Trust(
        required=LEVELS[max(tool.rank, rule.rank)],
        admin=LEVELS[grant.rank],
        consented=LEVELS[session.rank] if session else "",
        effective=LEVELS[min(grant.rank, session.rank) if session else grant.rank],
    )
    effect = ALLOW if reason is _ALLOWED else DENY
    return _decide(
        policy, call, identity, effect, reason, grant=grant, session=session, trust=trust
    )


def _decide(
    policy: Policy,
    call: Call,
    identity: Identity,
    effect: Effect,
    reason: Reason,
    *,
    grant: Grant | None = None,
    session: Session | None = None,
    trust: Trust | None = None,
) -> Decision:
    tool = policy.tools.get(call.tool)
    known = tool or UNDECLARED
    version = (grant and grant.policy_version) or (session and session.policy_version)
    return Decision(
        effect=effect,
        reason=reason,
        policy=policy.facts,
        call=call,
        identity=identity,
        trust=trust or Trust(required=LEVELS[known.rank] if call.is_tool_call else ""),
        side_effect=known.side_effect,
        risk=known.risk,
        tool_declared=tool is not None,
        grant=grant.ref if grant else None,
        session=session.ref if session else None,
        policy_version=version or policy.facts.version,
    )


def _observed(policy: Policy, decision: Decision) -> Decision:
    """Observe mode lets pass what rows 4 to 10 deny, and says what it would have done."""
    if not policy.observe:
        return decision
    would = Would(decision.effect, decision.reason)
    if decision.allowed or not decision.call.is_tool_call:
        return replace(decision, would=would)
    return replace(decision, effect=ALLOW, reason=Reason.ALLOWED, would=would)

"""Single edits of grants and sessions that may take away what a call was denied for. Pure.

Which of them help, alone or together, `remedies` finds out by evaluating.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from extauthz.core.decision import Decision, ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.model import (
    TRUST_LEVELS,
    Binding,
    MCPAccessGrant,
    MCPAgentSession,
    MCPServer,
    Subject,
    ToolRule,
    ToolSpec,
)
from extauthz.core.policy import RANKS
from extauthz.core.reasons import Reason
from extauthz.core.request import Identity
from extauthz.core.resources import check_name
from extauthz.core.times import format_instant, parse_instant

EXTENSION_SECONDS: Final = 24 * 3600.0  # of what has expired; a person may choose another


@dataclass(frozen=True, slots=True)
class Situation:
    """The objects that count for one call: the caller's grants, and the session it names."""

    server: MCPServer
    grants: tuple[MCPAccessGrant, ...]
    session: MCPAgentSession | None

    def tool(self, name: str) -> ToolSpec | None:
        return next((tool for tool in self.server.tools if tool.name == name), None)


@dataclass(frozen=True, slots=True)
class Edit:
    """One object changed in one place, or made.

    Args:
        before: None where it is made.
        summary: what is done, for people.
        weight: how large it is.
    """

    before: Binding | None
    after: Binding
    summary: str
    weight: int = 2  # two edits are less than a new object, three are more

    def applied(self, to: Situation) -> Situation:
        after = self.after
        if isinstance(after, MCPAgentSession):
            return replace(to, session=after)
        kept = tuple(grant for grant in to.grants if grant is not self.before)
        return replace(to, grants=(*kept, after))


NEW_WEIGHT: Final = 5

_Proposer = Callable[[Situation, Decision, float], Iterator[Edit]]


def proposals(situation: Situation, decision: Decision, now: float) -> Iterator[Edit]:
    """Edits that may help against the reason of `decision`; none where no object can help.

    Args:
        decision: what `situation` gives, as it would be enforced.
        now: seconds since the epoch.
    """
    for propose in _PROPOSERS.get(decision.reason, ()):
        yield from propose(situation, decision, now)


def _revive_session(situation: Situation, decision: Decision, now: float) -> Iterator[Edit]:
    session = situation.session
    assert session is not None  # a session was revoked, or has expired
    name = f"session {session.namespace}/{session.name}"
    if session.revoked:
        yield Edit(session, replace(session, revoked=False), f"un-revoke {name}")
    elif _is_over(session.expires_at, now):
        end = _later(now)
        yield Edit(session, replace(session, expires_at=end), f"extend {name} to {end}")


def _new_session(situation: Situation, decision: Decision, now: float) -> Iterator[Edit]:
    """Under the name that the caller gives; not where another subject's session has it."""
    namespace, _, name = decision.identity.session_id.rpartition("/")
    try:
        check_name(name, "")
    except Invalid:
        return
    if situation.session is not None:
        return
    server = situation.server
    if namespace and namespace not in server.policy.allowed_namespaces:
        return
    made = MCPAgentSession(
        namespace=namespace or server.namespace,
        name=name,
        server=ObjectRef(server.namespace, server.name),
        subject=_subject(decision.identity),
        consented_trust=_needed(situation, decision),
        expires_at=_later(now),
        revoked=False,
        policy_version="",
        created_at=format_instant(now) if server.session.enforce_max_lifetime else "",
    )
    yield Edit(None, made, f"make session {made.namespace}/{name} for the caller", NEW_WEIGHT)


def _revive_grants(situation: Situation, decision: Decision, now: float) -> Iterator[Edit]:
    for grant in situation.grants:
        name = f"grant {grant.namespace}/{grant.name}"
        if grant.disabled:
            yield Edit(grant, replace(grant, disabled=False), f"enable {name}")
        elif _is_over(grant.expires_at, now):
            end = _later(now)
            yield Edit(grant, replace(grant, expires_at=end), f"extend {name} to {end}")


def _undeny(situation: Situation, decision: Decision, now: float) -> Iterator[Edit]:
    tool = decision.call.tool
    grant = next(g for g in situation.grants if ObjectRef(g.namespace, g.name) == decision.grant)
    name = f"grant {grant.namespace}/{grant.name}"
    others = tuple(rule for rule in grant.tool_rules if rule.name != tool)
    if others:  # a grant without rules would cover every tool
        changed = replace(grant, tool_rules=others)
        yield Edit(grant, changed, f"remove the rule that denies `{tool}` from {name}")
    rules = tuple(
        replace(rule, decision="allow") if rule.name == tool else rule for rule in grant.tool_rules
    )
    changed = replace(grant, tool_rules=rules)
    yield Edit(grant, changed, f"let the rule of {name} for `{tool}` allow it")


def _add_rule(situation: Situation, decision: Decision, now: float) -> Iterator[Edit]:
    tool = decision.call.tool
    for grant in situation.grants:
        if all(rule.name != tool for rule in grant.tool_rules):
            rules = (*grant.tool_rules, ToolRule(tool, "allow", ""))
            summary = f"add a rule for `{tool}` to grant {grant.namespace}/{grant.name}"
            yield Edit(grant, replace(grant, tool_rules=rules), summary)


def _add_side_effect(situation: Situation, decision: Decision, now: float) -> Iterator[Edit]:
    effect = decision.side_effect
    for grant in situation.grants:
        if effect not in grant.allowed_side_effects and _rule(grant, decision.call.tool):
            effects = (*grant.allowed_side_effects, effect)
            summary = f"add `{effect}` to the side effects of grant {grant.namespace}/{grant.name}"
            yield Edit(grant, replace(grant, allowed_side_effects=effects), summary)


def _raise_trust(situation: Situation, decision: Decision, now: float) -> Iterator[Edit]:
    tool, session = decision.call.tool, situation.session
    for grant in situation.grants:
        rule = _rule(grant, tool)
        if rule is None:
            continue
        needed = _higher(_needed(situation, decision), rule.required_trust)
        if RANKS[grant.max_trust] < RANKS[needed]:
            name = f"grant {grant.namespace}/{grant.name}"
            changed = replace(grant, max_trust=needed)
            yield Edit(grant, changed, f"raise maxTrust of {name} to {needed}")
        if decision.session and session and RANKS[session.consented_trust] < RANKS[needed]:
            name = f"session {session.namespace}/{session.name}"
            raised = replace(session, consented_trust=needed)
            yield Edit(session, raised, f"raise consentedTrust of {name} to {needed}")


def _new_grant(situation: Situation, decision: Decision, now: float) -> Iterator[Edit]:
    """For this caller and this tool alone, with just the trust and side effect that it needs."""
    server, tool = situation.server, decision.call.tool
    if not tool or tool != tool.strip():
        return
    name = _name(decision)
    if any((g.namespace, g.name) == (server.namespace, name) for g in situation.grants):
        return
    made = MCPAccessGrant(
        namespace=server.namespace,
        name=name,
        server=ObjectRef(server.namespace, server.name),
        subject=_subject(decision.identity),
        max_trust=_needed(situation, decision),
        tool_rules=(ToolRule(tool, "allow", ""),),
        allowed_side_effects=(decision.side_effect,) if decision.side_effect else (),
        policy_version="",
        disabled=False,
        expires_at="",
    )
    summary = f"make grant {made.namespace}/{name}: `{tool}` for the caller alone"
    yield Edit(None, made, summary, NEW_WEIGHT)


_PROPOSERS: Final[dict[Reason, tuple[_Proposer, ...]]] = {
    Reason.SESSION_NOT_FOUND: (_new_session,),
    Reason.SESSION_REVOKED: (_revive_session,),
    Reason.SESSION_EXPIRED: (_revive_session,),
    Reason.GRANT_DISABLED: (_revive_grants, _new_grant),
    Reason.GRANT_EXPIRED: (_revive_grants, _new_grant),
    Reason.NO_MATCHING_GRANT: (_new_grant,),
    Reason.TOOL_DENIED: (_undeny,),
    Reason.TOOL_NOT_GRANTED: (_add_rule, _revive_grants, _new_grant),
    Reason.SIDE_EFFECT_NOT_ALLOWED: (_add_side_effect, _revive_grants, _new_grant),
    Reason.TOOL_SIDE_EFFECT_UNKNOWN: (_revive_grants, _new_grant),
    Reason.TRUST_TOO_LOW: (_raise_trust, _add_side_effect, _revive_grants, _new_grant),
}


def _rule(grant: MCPAccessGrant, tool: str) -> ToolRule | None:
    """What the grant says of the tool; one without rules covers all."""
    if not grant.tool_rules:
        return ToolRule(tool, "allow", "")
    return next((rule for rule in grant.tool_rules if rule.name == tool), None)


def _needed(situation: Situation, decision: Decision) -> str:
    """The trust that the tool asks for by itself."""
    tool = situation.tool(decision.call.tool)
    return tool.required_trust if tool else TRUST_LEVELS[0]


def _higher(one: str, other: str) -> str:
    return max(one, other, key=lambda level: RANKS.get(level, 0))


def _subject(identity: Identity) -> Subject:
    return Subject(identity.human_id, identity.agent_id, identity.team_id)


def _is_over(expires_at: str, now: float) -> bool:
    return bool(expires_at) and parse_instant(expires_at, "") <= now


def _later(now: float) -> str:
    return format_instant(now // 60 * 60 + EXTENSION_SECONDS)


def _name(decision: Decision) -> str:
    """A name that says the tool, and is the caller's own."""
    identity = decision.identity
    who = "\0".join((identity.human_id, identity.agent_id, identity.team_id, decision.call.tool))
    slug = re.sub(r"[^a-z0-9]+", "-", decision.call.tool.lower()).strip("-")[:40].strip("-")
    mark = hashlib.sha256(who.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return "-".join(filter(None, ("allow", slug, mark)))

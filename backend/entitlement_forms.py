"""What the access tools say, in JSON: who can call what, and what no call used."""

import msgspec

from backend.decision_forms import AskedServer, Levels, Ref, WouldBe
from extauthz.core.decision import ObjectRef
from extauthz.core.entitlements import Caller, ToolCall, WhatCan, WhoCan
from extauthz.core.model import MCPAccessGrant
from extauthz.core.policy import LEVELS, UNDECLARED, Policy, SubjectKey
from extauthz.core.rulelines import write_rule
from extauthz.core.rulings import Ruling
from extauthz.core.times import format_instant
from extauthz.core.unused import Force, State, Unused


class NamedCaller(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whom a subject names; what is left out may be anybody, or nobody."""

    human_id: str = ""
    agent_id: str = ""
    team_id: str = ""


class RuledCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one call gets, as the decision point would answer it now.

    Args:
        caller: who calls; with a session of others, all that its subject names.
        session: that the call names; left out for none.
        effect: `allow` or `deny`; in mode observe `would` is what is not enforced.
        reason, why: the row of the decision table that decides, in a word and in words.
        grant: that allows, denies, or comes furthest; `rule` is how it covers the tool.
        trust: what was compared: what is missing is between `effective` and `required`.
        until: when the effect changes although nobody edits anything; left out for never.
    """

    caller: NamedCaller
    session: str = ""
    effect: str
    reason: str
    why: str
    grant: Ref | None = None
    rule: str = ""
    trust: Levels
    until: str = ""
    would: WouldBe | None = None


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The server whose policy was asked.

    Args:
        revision: of that policy.
        session_required: a call must name a session of the caller's own.
        notes: what bears on all of the answer, in sentences.
    """

    server: AskedServer
    revision: str
    mode: str
    auth_mode: str
    default_decision: str
    session_required: bool
    notes: list[str]


class ToolFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool, as the server declares it."""

    name: str
    declared: bool
    required_trust: str
    side_effect: str = ""


class ListedCaller(msgspec.Struct, frozen=True, omit_defaults=True):
    """One caller: `calls` has the one without a session first.

    Args:
        can: whether any of these calls is allowed, or would be if the policy were enforced.
        more_sessions: there are further ones that it can name.
    """

    caller: NamedCaller
    can: bool
    calls: list[RuledCall]
    more_sessions: bool = False


class WhoCanAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Who can call a tool.

    A caller that several entries fit gets the strongest: a denial by a rule, a grant that
    allows, one that covers the tool and falls short, one that does not.

    Args:
        callers: those that can come first.
        callers_left_off: how many more there are.
        others: what everybody else gets, without a session.
    """

    policy: ServerFacts
    tool: ToolFacts
    callers: list[ListedCaller]
    callers_left_off: int
    others: RuledCall


class ListedTool(msgspec.Struct, frozen=True):
    """One tool; `any_other` stands for all that neither the server nor a grant names."""

    tool: ToolFacts
    any_other: bool
    can: bool
    calls: list[RuledCall]


class OfServer(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller can call on one server.

    Args:
        more_sessions: there are further ones of the caller's own.
        closer: there are grants for this caller with more fields set: ask with them, too.
    """

    policy: ServerFacts
    tools: list[ListedTool]
    more_sessions: bool
    closer: list[NamedCaller]
    closer_left_off: int


class WhatCanAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller can call, server by server.

    Args:
        faults: servers whose objects make no policy, and why.
        servers_left_off: how many more there are.
    """

    caller: NamedCaller
    servers: list[OfServer]
    faults: list[str]
    servers_left_off: int


class UnusedEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A grant, or a rule of it, that no call used.

    Args:
        rule: `tool:allow:high`; left out for the grant as a whole.
        state: `unused`: it decided no call; `never_allowed`: each call it decided was denied.
        force: whether the grant counts now.
        denied: how many calls it denied or did not reach, `last_denied` the latest of them.
        created_at: left out where nobody knows.
    """

    grant: Ref
    server: Ref
    subject: NamedCaller
    rule: str = ""
    state: State
    force: Force
    denied: int = 0
    last_denied: str = ""
    created_at: str = ""


class UnusedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Grants and rules that no call used.

    Args:
        since: as asked, at the midnight before.
        stored_since: the earliest event that is stored; null where there is none. What is
            before it is not known: then `complete` is false.
        left_off: how many more entries there are.
    """

    since: str
    until: str
    stored_since: str | None
    complete: bool
    notes: list[str]
    grants_looked_at: int
    unused: list[UnusedEntry]
    left_off: int


def who_can_answer(server: AskedServer, policy: Policy, answer: WhoCan) -> WhoCanAnswer:
    """Of a compiled policy."""
    facts = tool_facts(policy, answer.tool)
    return WhoCanAnswer(
        policy=server_facts(server, policy),
        tool=facts,
        callers=[_listed(each) for each in answer.callers],
        callers_left_off=answer.left_off,
        others=ruled(answer.others),
    )


def what_can_of(server: AskedServer, policy: Policy, answer: WhatCan) -> OfServer:
    """Of a compiled policy."""
    return OfServer(
        policy=server_facts(server, policy),
        tools=[_tool(policy, each) for each in answer.tools],
        more_sessions=answer.has_more,
        closer=[named(each) for each in answer.closer],
        closer_left_off=answer.closer_left_off,
    )


def server_facts(server: AskedServer, policy: Policy) -> ServerFacts:
    """With what a reader of the answer must know."""
    notes = []
    if policy.auth_mode == "none":
        notes.append("auth mode none identifies nobody: every tool call is denied")
    if policy.auth_mode == "header" and not policy.trusted_peers:
        notes.append(
            "callers say themselves who they are: set auth.trustedPeers, or use mode oauth"
        )
    if policy.observe:
        notes.append("mode observe lets every call pass; `would` is what is not enforced")
    return ServerFacts(
        server=server,
        revision=policy.facts.revision,
        mode=policy.facts.mode,
        auth_mode=policy.auth_mode,
        default_decision=policy.default.value,
        session_required=policy.session_required,
        notes=notes,
    )


def tool_facts(policy: Policy, tool: str) -> ToolFacts:
    """What the server declares of it."""
    known = policy.tools.get(tool)
    facts = known or UNDECLARED
    return ToolFacts(tool, known is not None, LEVELS[facts.rank], facts.side_effect)


def ruled(ruling: Ruling) -> RuledCall:
    """A ruling, as it is answered."""
    decision, who = ruling.decision, ruling.decision.identity
    would, trust = decision.would, decision.trust
    return RuledCall(
        caller=NamedCaller(who.human_id, who.agent_id, who.team_id),
        session=who.session_id,
        effect=decision.effect.value,
        reason=decision.reason.value,
        why=ruling.why,
        grant=_ref(decision.grant),
        rule=ruling.rule,
        trust=Levels(trust.required, trust.admin, trust.consented, trust.effective),
        until=format_instant(ruling.until) if ruling.until is not None else "",
        would=WouldBe(would.effect.value, would.reason.value) if would else None,
    )


def unused_entry(found: Unused, created_at: str) -> UnusedEntry:
    """A finding, as it is answered."""
    grant, use = found.grant, found.use
    return UnusedEntry(
        grant=Ref(grant.namespace, grant.name),
        server=Ref(grant.server.namespace, grant.server.name),
        subject=_subject(grant),
        rule=write_rule(found.rule) if found.rule else "",
        state=found.state,
        force=found.force,
        denied=use.denied,
        last_denied=format_instant(use.last) if use.denied else "",
        created_at=created_at,
    )


def named(subject: SubjectKey) -> NamedCaller:
    """Human, agent and team."""
    return NamedCaller(*subject)


def _listed(caller: Caller) -> ListedCaller:
    calls = [ruled(each) for each in caller.rulings]
    return ListedCaller(named(caller.subject), caller.can, calls, caller.has_more)


def _tool(policy: Policy, call: ToolCall) -> ListedTool:
    can = any(each.allows for each in call.rulings)
    calls = [ruled(each) for each in call.rulings]
    return ListedTool(tool_facts(policy, call.tool), not call.tool, can, calls)


def _subject(grant: MCPAccessGrant) -> NamedCaller:
    subject = grant.subject
    return NamedCaller(subject.human_id, subject.agent_id, subject.team_id)


def _ref(found: ObjectRef | None) -> Ref | None:
    return Ref(found.namespace, found.name) if found else None

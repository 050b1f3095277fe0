"""Finds an allowed and a denied call in a policy, to be shown as commands to copy."""

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from extauthz.core.compile import compile_document
from extauthz.core.decide import Snapshot
from extauthz.core.decision import Effect
from extauthz.core.errors import Invalid
from extauthz.core.policy import UNDECLARED, Policy
from extauthz.core.request import Call, Identity, Kind

MOST_SUBJECTS = 200  # looked through
STRANGER = Identity(agent_id="unknown-agent")


@dataclass(frozen=True, slots=True)
class Example:
    """One call and who makes it."""

    tool: str
    identity: Identity

    @property
    def arguments(self) -> list[str]:
        """The call as arguments of `sentinel`."""
        words = ["call", self.tool]
        for name, value in (
            ("--human", self.identity.human_id),
            ("--agent", self.identity.agent_id),
            ("--team", self.identity.team_id),
            ("--session", self.identity.session_id),
        ):
            words += [name, value] if value else []
        return words


@dataclass(frozen=True, slots=True)
class Examples:
    """An allowed and a denied call; None where the policy has none."""

    allowed: Example | None
    denied: Example | None


def find_examples(document: dict[str, object], now: float) -> Examples:
    """Look for calls that show the policy at work: one caller's, where that can be."""
    try:
        policy = compile_document(document)
    except Invalid:
        return Examples(None, None)
    snapshot = Snapshot.of(policy, now)
    tools = _tools(policy)
    riskiest = sorted(tools, key=lambda tool: _risk(policy, tool), reverse=True)
    denied: Example | None = None
    for identity in _callers(policy):
        refused = _first(snapshot, riskiest, identity, Effect.DENY, now)
        denied = denied or refused
        if allowed := _first(snapshot, tools, identity, Effect.ALLOW, now):
            refused = refused or _first(snapshot, riskiest, STRANGER, Effect.DENY, now)
            return Examples(allowed, refused or denied)
    return Examples(None, denied)


def _first(
    snapshot: Snapshot, tools: list[str], identity: Identity, effect: Effect, now: float
) -> Example | None:
    for tool in tools:
        call = Call(Kind.REQUEST, "tools/call", tool)
        if snapshot.decide_call(call, identity, None, now).effect is effect:
            return Example(tool, identity)
    return None


def _callers(policy: Policy) -> Iterator[Identity]:
    """Subjects of grants, each alone and in each of its sessions."""
    plainest_first = sorted(policy.grants, key=lambda key: (sum(map(bool, key)), key))
    for human, agent, team in plainest_first[:MOST_SUBJECTS]:
        subject = Identity(human, agent, team)
        yield subject
        for name, session in list(policy.sessions.items())[:MOST_SUBJECTS]:
            if session.is_for(subject):
                yield replace(subject, session_id=name)
    yield STRANGER


def _tools(policy: Policy) -> list[str]:
    named = dict.fromkeys(policy.tools)
    for found in policy.grants.values():
        for grant in found.grants:
            named |= dict.fromkeys(grant.rules or ())
    return list(named) or ["TOOL"]


def _risk(policy: Policy, tool: str) -> tuple[bool, int]:
    known = policy.tools.get(tool, UNDECLARED)
    return known.side_effect == "destructive", known.rank

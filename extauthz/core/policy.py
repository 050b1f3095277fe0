"""A policy document compiled into indexes: what the evaluator runs on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import msgspec

from extauthz.core.claims import first_claim
from extauthz.core.decision import Effect, ObjectRef, PolicyFacts
from extauthz.core.model import TRUST_LEVELS
from extauthz.core.request import Identity

RANKS = {level: rank for rank, level in enumerate(TRUST_LEVELS, start=1)}
LEVELS = {rank: level for level, rank in RANKS.items()}
NEVER = math.inf  # the expiry of what does not expire

SubjectKey = tuple[str, str, str]  # human, agent, team; empty where the subject leaves it open

# Up to so many grants of one subject are looked through; more are indexed by tool.
_SMALL = 16
_ANYBODY = ("",)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the server declares. `rank`: its required trust."""

    rank: int
    side_effect: str
    risk: str


UNDECLARED = Tool(rank=RANKS["low"], side_effect="", risk="")


class Rule(msgspec.Struct, frozen=True, gc=False):
    """What a grant says of one tool. `rank`: required trust, 0 when unset."""

    deny: bool
    rank: int


COVERS = Rule(deny=False, rank=0)  # what a grant without rules says of every tool


class Grant(msgspec.Struct, frozen=True, gc=False):
    """A grant, ready to be evaluated.

    Args:
        ref: name and namespace; grants are ordered by them.
        rank: max trust.
        effects: side-effect classes that it allows; empty allows all (guard whenSet).
        rules: by tool; None covers all tools.
        disabled: has no rules at all.
        expires_at: seconds since the epoch; `NEVER`.
        policy_version: empty when unset.
    """

    ref: ObjectRef
    rank: int
    effects: tuple[str, ...]
    rules: Mapping[str, Rule] | None
    disabled: bool
    expires_at: float
    policy_version: str

    def is_live(self, now: float) -> bool:
        """Expired when now >= expiry (as `exp` in RFC 7519, section 4.1.4)."""
        return not self.disabled and now < self.expires_at

    def rule_for(self, tool: str) -> Rule | None:
        """What it says of the tool; None where it says nothing."""
        return COVERS if self.rules is None else self.rules.get(tool)


def order(grant: Grant) -> tuple[str, str]:
    """What grants are sorted and told apart by: namespace and name."""
    return grant.ref.namespace, grant.ref.name


class Session(msgspec.Struct, frozen=True, gc=False):
    """A session, ready to be evaluated. `rank`: consented trust."""

    ref: ObjectRef
    subject: SubjectKey
    rank: int
    revoked: bool
    expires_at: float
    policy_version: str

    def is_for(self, identity: Identity) -> bool:
        """Every field that the subject sets is equal; an empty subject matches nobody."""
        human, agent, team = self.subject
        return (
            (not human or human == identity.human_id)
            and (not agent or agent == identity.agent_id)
            and (not team or team == identity.team_id)
            and bool(human or agent or team)
        )


class SubjectGrants:
    """All grants of one subject, ordered by namespace and name.

    Args:
        grants: in that order, at least one.
    """

    __slots__ = ("_by_tool", "_open", "grants", "live_until")

    def __init__(self, grants: tuple[Grant, ...]) -> None:
        self.grants = grants
        # While now is below this, at least one grant is live.
        self.live_until = max((g.expires_at for g in grants if not g.disabled), default=-NEVER)
        self._by_tool: dict[str, tuple[Grant, ...]] | None = None
        self._open: tuple[Grant, ...] = ()
        if len(grants) > _SMALL:
            self._index()

    def for_tool(self, tool: str) -> tuple[Grant, ...]:
        """The grants that may say something of the tool."""
        if self._by_tool is None:
            return self.grants
        return self._by_tool.get(tool, ()) + self._open

    def _index(self) -> None:
        by_tool: dict[str, list[Grant]] = {}
        for grant in self.grants:
            for tool in grant.rules or ():
                by_tool.setdefault(tool, []).append(grant)
        self._open = tuple(grant for grant in self.grants if grant.rules is None)
        self._by_tool = {tool: tuple(found) for tool, found in by_tool.items()}


@dataclass(frozen=True, slots=True)
class IdentityHeaders:
    """Lower-case names of the headers that carry identity; `all` holds the four."""

    human: str
    agent: str
    team: str
    session: str

    @property
    def all(self) -> frozenset[str]:
        return frozenset({self.human, self.agent, self.team, self.session})


@dataclass(frozen=True, slots=True)
class OAuth:
    """How bearer tokens are verified and read (mode oauth).

    Args:
        issuer, audience: what `iss` must be, and what `aud` must be or hold; exactly.
        jwks_url: where the issuer's keys are; empty where its metadata tells.
        header: lower-case name of the header that carries the token.
        human_claims, agent_claims, team_claims, session_claims: claim names; the first that is
            set counts.
    """

    issuer: str
    audience: str
    jwks_url: str
    header: str
    human_claims: tuple[str, ...]
    agent_claims: tuple[str, ...]
    team_claims: tuple[str, ...]
    session_claims: tuple[str, ...]

    def read(self, claims: Mapping[str, Any]) -> Identity:
        """Whom the claims of a verified token name. Raises: BadToken."""
        return Identity(
            human_id=first_claim(claims, self.human_claims),
            agent_id=first_claim(claims, self.agent_claims),
            team_id=first_claim(claims, self.team_claims),
            session_id=first_claim(claims, self.session_claims),
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """One document, compiled.

    Args:
        facts: what a decision says of it.
        auth_mode: `none`, `header` or `oauth`.
        headers: where identity comes from, or in mode oauth goes to; `watched`: the names of
            headers that must stand once, these among them.
        trusted_peers: networks whose identity headers count; empty trusts every peer.
        observe: let pass, and record what would have been denied.
        default: the decision where no grant speaks.
        unknown_methods: the decision for methods that MCP does not know.
        guard_required: a grant must list the side effects that it allows.
        max_staleness: seconds after which the document no longer counts; `NEVER`.
        session_required: a tools/call must name a session.
        tools, grants, sessions: indexes by name, subject and rendered name.
        generated_at: seconds since the epoch; 0 when the document does not say.
        oauth: how tokens are verified; None in other modes.
    """

    facts: PolicyFacts
    auth_mode: str
    headers: IdentityHeaders
    watched: frozenset[str]
    trusted_peers: tuple[IPv4Network | IPv6Network, ...]
    observe: bool
    default: Effect
    unknown_methods: Effect
    guard_required: bool
    max_staleness: float
    session_required: bool
    tools: Mapping[str, Tool]
    grants: Mapping[SubjectKey, SubjectGrants]
    sessions: Mapping[str, Session]
    generated_at: float
    oauth: OAuth | None = None

    def matching(self, identity: Identity) -> list[SubjectGrants]:
        """The grants whose every set field equals the identity's: at most seven look-ups."""
        human, agent, team = identity.human_id, identity.agent_id, identity.team_id
        get = self.grants.get
        return [
            found
            for h in ((human, "") if human else _ANYBODY)
            for a in ((agent, "") if agent else _ANYBODY)
            for t in ((team, "") if team else _ANYBODY)
            if (found := get((h, a, t)))  # nothing is indexed for an empty subject
        ]

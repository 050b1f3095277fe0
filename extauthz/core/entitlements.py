"""Who can call a tool, and what a caller can call: a compiled policy, asked in every way. Pure.

Callers are endless; what the policy tells apart is not. Each subject that it names is asked
for, without a session and with each of its own. Of a caller that several subjects fit, the
strongest of their rulings holds: a denial by a rule, a grant that allows, one that covers the
tool and falls short, one that does not cover it, one that is not in force (docs/commands.md).
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from extauthz.core.decision import Effect
from extauthz.core.policy import Policy, Session, SubjectKey
from extauthz.core.request import Identity
from extauthz.core.rulings import Ruling, fits, merged, rule

MOST_LOOKED_AT: Final = 10_000  # callers; a question is to be answered in a second
MOST_SESSIONS: Final = 20  # of one caller; those in force come first
NOBODY: Final[SubjectKey] = ("", "", "")


@dataclass(frozen=True, slots=True)
class Caller:
    """One subject, as if it called.

    Args:
        subject: human, agent, team; empty where it leaves them open.
        rulings: without a session first, then with each that it can name.
        has_more: there are further sessions that it can name.
    """

    subject: SubjectKey
    rulings: tuple[Ruling, ...]
    has_more: bool = False

    @property
    def can(self) -> bool:
        """Whether it can call the tool in some way."""
        return any(ruling.allows for ruling in self.rulings)


@dataclass(frozen=True, slots=True)
class WhoCan:
    """Who can call one tool.

    Args:
        callers: those that can come first; the rest is named because a grant speaks of the tool.
        left_off: how many further callers there are.
        others: what everybody else gets, who names no session.
    """

    tool: str
    callers: tuple[Caller, ...]
    left_off: int
    others: Ruling


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What one caller gets for one tool; `tool` is empty for those that nothing names."""

    tool: str
    rulings: tuple[Ruling, ...]


@dataclass(frozen=True, slots=True)
class WhatCan:
    """What one caller can call on one server.

    Args:
        tools: those that the server declares or the caller's grants name, then all others.
        has_more: there are further sessions of the caller's own.
        closer: subjects that are this caller with more fields set; they may get more, or less.
        closer_left_off: how many further ones there are.
    """

    tools: tuple[ToolCall, ...]
    has_more: bool = False
    closer: tuple[SubjectKey, ...] = ()
    closer_left_off: int = 0


def who_can(policy: Policy, tool: str, now: float, most: int) -> WhoCan:
    """Who can call `tool` at `now` (seconds since the epoch), at most `most` callers."""
    if policy.auth_mode == "none":  # nobody is identified
        return WhoCan(tool, (), 0, rule(policy, tool, Identity(), now))
    subjects = sorted(_subjects(policy, tool))
    sessions = _Sessions(policy, now)
    callers = [_caller(policy, tool, now, each, sessions) for each in subjects[:MOST_LOOKED_AT]]
    callers.sort(key=lambda caller: not caller.can)  # stable: by subject within
    shown = tuple(callers[:most])
    stranger = Identity(human_id=_unnamed({human for human, _, _ in policy.grants}))
    return WhoCan(tool, shown, len(subjects) - len(shown), rule(policy, tool, stranger, now))


def what_can(policy: Policy, caller: Identity, now: float) -> WhatCan:
    """What `caller` can call at `now` (seconds since the epoch).

    Where it names no session, it is asked for without one and with each of its own.
    """
    if policy.auth_mode == "none":
        caller = Identity()
    subject, named, has_more = _key(caller), [caller.session_id], False
    if not caller.session_id:
        own, has_more = _Sessions(policy, now).of(subject, lambda each: fits(each.subject, subject))
        named += own
    callers = [_identity(subject, session) for session in named]
    tools = _tools(policy, caller)
    asked = [(tool, tool) for tool in tools] + [("", _unnamed(tools))]
    closer = sorted(_closer(policy, subject))
    return WhatCan(
        tuple(
            ToolCall(shown, tuple(rule(policy, tool, each, now) for each in callers))
            for shown, tool in asked
        ),
        has_more,
        tuple(closer[:MOST_SESSIONS]),
        len(closer[MOST_SESSIONS:]),
    )


def _subjects(policy: Policy, tool: str) -> set[SubjectKey]:
    """Where the default allows, each one may make a difference: its grants may take away."""
    if policy.default is Effect.ALLOW:
        return {*policy.grants, *(s.subject for s in policy.sessions.values())} - {NOBODY}
    return {
        subject
        for subject, found in policy.grants.items()
        if any(grant.rule_for(tool) for grant in found.for_tool(tool))
    }


def _caller(
    policy: Policy, tool: str, now: float, subject: SubjectKey, sessions: "_Sessions"
) -> Caller:
    named, has_more = sessions.of(subject, lambda each: bool(merged(each.subject, subject)))
    asked = [_identity(subject, "")]
    for name in named:
        both = merged(policy.sessions[name].subject, subject)
        asked.append(_identity(both or subject, name))
    rulings = tuple(rule(policy, tool, each, now) for each in asked)
    return Caller(subject, rulings, has_more)


class _Sessions:
    """The sessions of a policy, found by whom they may be for."""

    def __init__(self, policy: Policy, now: float) -> None:
        self._policy = policy
        self._by_field: dict[tuple[int, str], list[str]] = defaultdict(list)
        names = sorted(policy.sessions, key=lambda name: self._order(name, now))
        self._places = {name: place for place, name in enumerate(names)}
        for name in names:
            for place, value in enumerate(policy.sessions[name].subject):
                self._by_field[place, value].append(name)

    def of(
        self, subject: SubjectKey, is_meant: Callable[[Session], bool]
    ) -> tuple[list[str], bool]:
        """Names of those that are meant, those in force first; and whether there are more."""
        found: list[str] = []
        for name in self._near(subject):
            session = self._policy.sessions[name]
            if session.subject != NOBODY and is_meant(session):
                if len(found) == MOST_SESSIONS:
                    return found, True
                found.append(name)
        return found, False

    def _near(self, subject: SubjectKey) -> Iterator[str]:
        """In order, those that leave one of the subject's fields open or have its value."""
        near = [
            (self._by_field[place, value], self._by_field[place, ""])
            for place, value in enumerate(subject)
            if value
        ]
        fewest = min(near, key=lambda lists: sum(map(len, lists)), default=())
        return heapq.merge(*fewest, key=self._places.__getitem__)

    def _order(self, name: str, now: float) -> tuple[bool, str]:
        session = self._policy.sessions[name]
        return session.revoked or now >= session.expires_at, name


def _tools(policy: Policy, caller: Identity) -> list[str]:
    """Those that the server declares, then others that grants of the caller name."""
    named = {
        tool
        for found in policy.matching(caller)
        for grant in found.grants
        for tool in grant.rules or ()
    }
    return [*policy.tools, *sorted(named - policy.tools.keys())]


def _closer(policy: Policy, subject: SubjectKey) -> Iterator[SubjectKey]:
    for other in policy.grants:
        shared = any(mine and mine == yours for mine, yours in zip(subject, other, strict=True))
        if shared and not fits(other, subject) and merged(other, subject):
            yield other


def _key(caller: Identity) -> SubjectKey:
    return caller.human_id, caller.agent_id, caller.team_id


def _identity(subject: SubjectKey, session: str) -> Identity:
    return Identity(*subject, session_id=session)


def _unnamed(names: Iterable[str]) -> str:
    """A name that is none of these."""
    known = frozenset(names)
    return next(
        name for name in (f"any other {n}" for n in range(len(known) + 1)) if name not in known
    )

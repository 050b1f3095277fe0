"""The smallest changes of grants and sessions that would allow a denied call. Pure.

A search over edits, the smallest first; every step compiles and evaluates the changed
document, so that what comes out is known to work. What opens least to others comes first.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from msgspec.structs import replace

from extauthz.core.compile import compile_document
from extauthz.core.decision import Decision, ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.evaluate import evaluate
from extauthz.core.model import API_VERSION, Binding, MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.proposals import Edit, Situation, proposals
from extauthz.core.render import belongs, render
from extauthz.core.request import Call, Identity
from extauthz.core.times import format_instant
from extauthz.core.writing import merge_patch, to_object

MOST_REMEDIES: Final = 3
MOST_LOOKED_AT: Final = 300  # documents compiled; a search that is not done by then gives up


@dataclass(frozen=True, slots=True)
class Access:
    """The custom resources that decide calls of one server; others may be among them."""

    server: MCPServer
    grants: Sequence[MCPAccessGrant]
    sessions: Sequence[MCPAgentSession]


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """What becomes of one object.

    Args:
        before: None where it is made.
        summaries: what is done to it, for people.
    """

    before: Binding | None
    after: Binding
    summaries: tuple[str, ...]

    @property
    def patch(self) -> dict[str, Any]:
        """A merge patch (RFC 7386) that names its object; of one that is made, all of it."""
        whole = to_object(self.after)
        if self.before is None:
            return whole
        names = {"name": self.after.name, "namespace": self.after.namespace}
        head = {"apiVersion": API_VERSION, "kind": whole["kind"], "metadata": names}
        return head | merge_patch(to_object(self.before), whole)


@dataclass(frozen=True, slots=True)
class Remedy:
    """Changes that together allow the call.

    Args:
        opens_to_others: whether it may also let others through: an object that it changes is
            for more callers than this one.
    """

    changes: tuple[ObjectChange, ...]
    opens_to_others: bool


def remedies(
    access: Access, call: Call, identity: Identity, now: float, most: int = MOST_REMEDIES
) -> list[Remedy]:
    """Changes that would allow this call at `now`, the best first; none where it is allowed.

    None, too, where no grant or session can help: the caller is not identified, a required
    session is not named, a tool must be declared.
    """
    found: list[Remedy] = []
    enough: list[frozenset[str]] = []  # what was done in each; more than that is not smallest
    start = _situation(access, identity)
    serial = count()  # of equal paths the first one found counts
    paths: list[tuple[int, int, int, Situation, tuple[Edit, ...]]] = [(0, 0, 0, start, ())]
    seen = {start}
    for _ in range(MOST_LOOKED_AT):
        if not paths or len(found) == most:
            break
        opened, weight, _, situation, edits = heapq.heappop(paths)
        done = frozenset(edit.summary for edit in edits)
        if any(less <= done for less in enough):
            continue
        decision = _decide(situation, call, identity, now)
        if decision is None:
            continue
        if decision.allowed:
            if edits:
                found.append(_remedy(edits, opened > 0))
            enough.append(done)
            continue
        for edit in proposals(situation, decision, now):
            changed = edit.applied(situation)
            if changed not in seen:
                seen.add(changed)
                reach = opened + _opens(access.server, edit, identity)
                path = (*edits, edit)
                entry = (reach, weight + edit.weight, next(serial), changed, path)
                heapq.heappush(paths, entry)
    return found


def _situation(access: Access, identity: Identity) -> Situation:
    """Evaluating looks at nothing else, so the other objects need not be compiled."""
    server = access.server
    mine = (grant for grant in access.grants if belongs(server, grant))
    named = (s for s in access.sessions if belongs(server, s))
    return Situation(
        server,
        tuple(grant for grant in mine if _is_for(server, grant, identity)),
        next((s for s in named if identity.session_id == _rendered_name(server, s)), None),
    )


def _decide(situation: Situation, call: Call, identity: Identity, now: float) -> Decision | None:
    """What is decided, in observe mode what would be; None where it makes no policy."""
    sessions = [situation.session] if situation.session else []
    try:
        document = render(
            situation.server, situation.grants, sessions, generated_at=format_instant(now)
        )
        policy = compile_document(document)
    except Invalid:
        return None
    decision = evaluate(policy, call, identity, peer=None, now=now, as_of=now)
    would = decision.would
    return replace(decision, effect=would.effect, reason=would.reason) if would else decision


def _remedy(edits: tuple[Edit, ...], opens: bool) -> Remedy:
    """Edits by object, in their order."""
    changes: dict[tuple[type[Binding], ObjectRef], ObjectChange] = {}
    for edit in edits:
        key = (type(edit.after), ObjectRef(edit.after.namespace, edit.after.name))
        earlier = changes.get(key)
        before = earlier.before if earlier else edit.before
        told = earlier.summaries if earlier else ()
        changes[key] = ObjectChange(before, edit.after, (*told, edit.summary))
    return Remedy(tuple(changes.values()), opens)


def _opens(server: MCPServer, edit: Edit, identity: Identity) -> bool:
    """Whether the object is for more callers than those that look like this one."""
    return edit.before is not None and set(_subject(server, edit.before)) != {
        (field, value) for field, value in _fields(identity) if value
    }


def _is_for(server: MCPServer, item: Binding, identity: Identity) -> bool:
    known = dict(_fields(identity))
    return all(known[field] == value for field, value in _subject(server, item))


def _subject(server: MCPServer, item: Binding) -> Iterator[tuple[str, str]]:
    """The fields that it sets, as rendered: its team is the server's where it names none."""
    subject = item.subject
    fields = (
        ("human", subject.human_id),
        ("agent", subject.agent_id),
        ("team", subject.team_id or server.team_id),
    )
    return ((field, value) for field, value in fields if value)


def _fields(identity: Identity) -> tuple[tuple[str, str], ...]:
    return (
        ("human", identity.human_id),
        ("agent", identity.agent_id),
        ("team", identity.team_id),
    )


def _rendered_name(server: MCPServer, session: MCPAgentSession) -> str:
    own = session.namespace == server.namespace
    return session.name if own else f"{session.namespace}/{session.name}"

"""What a change would do: the calls of the last day that would now be decided differently."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import msgspec

from backend.api.explain_recorded import Recorded, read_recorded
from backend.ports.access_store import AccessStore
from backend.ports.event_store import EventStore, StoredEvent
from backend.queries import EventFilter
from extauthz.core.compile import compile_document
from extauthz.core.decide import Snapshot
from extauthz.core.decision import Decision, ObjectRef
from extauthz.core.errors import Invalid, NotFound
from extauthz.core.events import EventType
from extauthz.core.model import Binding, MCPAccessGrant, MCPAgentSession, MCPServer, Subject
from extauthz.core.policy import Policy
from extauthz.core.render import render
from extauthz.core.request import Call, Identity
from extauthz.core.times import format_instant

WINDOW: Final = timedelta(hours=24)
MOST_CALLS: Final = 10_000
PAGE: Final = 1_000
MOST_SHOWN: Final = 100
MOST_IDS: Final = 5


class Decided(msgspec.Struct, frozen=True):
    """A decision; in mode observe the one that would be made."""

    decision: str
    reason: str


class ChangedCalls(msgspec.Struct, frozen=True, kw_only=True, rename={"was": "from", "will": "to"}):
    """Calls of one caller that would be decided differently, in the same way.

    Args:
        calls: how many.
        request_ids: of some of them, the newest.
    """

    human_id: str
    agent_id: str
    team_id: str
    session_id: str
    tool_name: str
    was: Decided
    will: Decided
    calls: int
    request_ids: list[str]


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What calls of the last 24 h would get if they came now.

    Args:
        since: the oldest time that was looked at.
        calls: how many were looked at: those that the object may be about.
        changed: how many of them would be decided differently.
        bounded: what was left out, and why; empty where nothing was.
        changes: those with most calls first.
    """

    since: str
    until: str
    calls: int
    changed: int
    bounded: str
    changes: list[ChangedCalls]


@dataclass(slots=True)
class _Group:
    was: Decision
    will: Decision
    request_ids: list[str] = field(default_factory=list)
    calls: int = 0


class Previews:
    """Works out previews, in bounded time and memory.

    Args:
        store, access: both may raise Retryable.
        most_calls: of each server that are looked at.
    """

    def __init__(
        self, store: EventStore, access: AccessStore, most_calls: int = MOST_CALLS
    ) -> None:
        self._store, self._access, self._most_calls = store, access, most_calls

    def of(
        self,
        before: Binding | None,
        after: Binding | None,
        now: datetime,
        within: frozenset[str] | None,
    ) -> Preview:
        """What putting `after` in the place of `before` would do.

        Args:
            within: namespaces whose calls the caller may see; None for all.

        Raises:
            TooSlow: the store.
        """
        oldest, bounds = now - WINDOW, list[str]()
        calls, changed, found = 0, 0, list[ChangedCalls]()
        for ref in dict.fromkeys(item.server for item in (before, after) if item):
            try:
                policies = self._policies(ref, before, after, now)
            except Invalid as error:
                bounds.append(f"`{ref}` has no policy as it stands: {error}")
                continue
            if policies is None:
                continue
            asked = _asked(ref, before, after, now, within)
            recorded, back_to = self._calls(asked)
            if back_to is not None:
                oldest = max(oldest, back_to)
                newest = f"the newest {self._most_calls} calls alone"
                bounds.append(f"of `{ref}` {newest} were looked at, back to `since`")
            groups = _groups(recorded, *policies, now.timestamp())
            calls += len(recorded)
            changed += sum(group.calls for group in groups.values())
            found += [_shown(identity, tool, group) for (identity, tool), group in groups.items()]
        return _effect(oldest, now, calls, changed, found, bounds)

    def _policies(
        self, ref: ObjectRef, before: Binding | None, after: Binding | None, now: datetime
    ) -> tuple[Policy, Policy] | None:
        """Of a server, without and with the change; None where there is no such server."""
        try:
            server = self._access.get(MCPServer, ref.namespace, ref.name).resource
        except NotFound:
            return None
        about = [_subject(server, item) for item in (before, after) if item]
        others: list[Binding] = [
            item
            for item in self._bindings()
            if not _is_same(item, before or after)
            and any(_may_both_match(_subject(server, item), subject) for subject in about)
        ]
        return (
            _policy(server, [*others, before] if before else others, now),
            _policy(server, [*others, after] if after else others, now),
        )

    def _bindings(self) -> Iterator[Binding]:
        yield from self._access.grants()
        yield from self._access.sessions()

    def _calls(self, asked: EventFilter) -> tuple[list[Recorded], datetime | None]:
        """Calls, the newest first; and back to when, where there are more."""
        found, cursor, left = list[Recorded](), None, self._most_calls
        while left > 0:
            page = self._store.page(asked, min(PAGE, left), cursor)
            found += filter(None, map(_decided_by_policy, page.events))
            cursor, left = page.next, left - PAGE
            if cursor is None:
                return found, None
        return found, cursor.event_time if cursor else None


def _effect(
    since: datetime,
    until: datetime,
    calls: int,
    changed: int,
    changes: list[ChangedCalls],
    bounds: list[str],
) -> Preview:
    """As it is answered: the greatest changes first, and not too many."""
    if len(changes) > MOST_SHOWN:
        bounds = [*bounds, f"the first {MOST_SHOWN} of {len(changes)} changes are shown"]
    return Preview(
        since=format_instant(since.timestamp()),
        until=format_instant(until.timestamp()),
        calls=calls,
        changed=changed,
        bounded="; ".join(bounds),
        changes=sorted(changes, key=lambda each: -each.calls)[:MOST_SHOWN],
    )


def _asked(
    ref: ObjectRef,
    before: Binding | None,
    after: Binding | None,
    now: datetime,
    within: frozenset[str] | None,
) -> EventFilter:
    """The calls of those whom the object may be about."""
    subjects = {item.subject for item in (before, after) if item}
    one = next(iter(subjects)) if len(subjects) == 1 else Subject()
    return EventFilter(
        event_type=EventType.REQUEST.value,
        server=ref.name,
        namespace=ref.namespace,
        human_id=one.human_id,
        agent_id=one.agent_id,
        since=now - WINDOW,
        until=now,
        within=within,
    )


def _decided_by_policy(event: StoredEvent) -> Recorded | None:
    """A call that grants or sessions decided, or would today."""
    recorded = read_recorded(event)
    if recorded is None or not recorded.decision.call.is_tool_call:
        return None
    return recorded if recorded.was_evaluated else None


def _groups(
    recorded: Iterable[Recorded], old: Policy, new: Policy, now: float
) -> Mapping[tuple[Identity, str], _Group]:
    """Calls that change, by caller and tool: whoever calls the same gets the same."""
    groups: dict[tuple[Identity, str], _Group] = {}
    for each in recorded:
        call, identity = each.decision.call, each.decision.identity
        group = groups.get((identity, call.tool))
        if group is None:
            was, will = (_decide(policy, call, identity, now) for policy in (old, new))
            group = groups[identity, call.tool] = _Group(was, will)
        group.calls += 1
        if len(group.request_ids) < MOST_IDS and each.event.request_id:
            group.request_ids.append(each.event.request_id)
    return {key: group for key, group in groups.items() if _told(group.was) != _told(group.will)}


def _decide(policy: Policy, call: Call, identity: Identity, now: float) -> Decision:
    return Snapshot.of(policy, now).decide_call(call, identity, None, now)


def _told(decision: Decision) -> Decided:
    told = decision.would or decision
    return Decided(told.effect.value, told.reason.value)


def _shown(identity: Identity, tool: str, group: _Group) -> ChangedCalls:
    return ChangedCalls(
        human_id=identity.human_id,
        agent_id=identity.agent_id,
        team_id=identity.team_id,
        session_id=identity.session_id,
        tool_name=tool,
        was=_told(group.was),
        will=_told(group.will),
        calls=group.calls,
        request_ids=group.request_ids,
    )


def _policy(server: MCPServer, items: Sequence[Binding], now: datetime) -> Policy:
    grants = [item for item in items if isinstance(item, MCPAccessGrant)]
    sessions = [item for item in items if isinstance(item, MCPAgentSession)]
    generated_at = format_instant(now.timestamp())
    return compile_document(render(server, grants, sessions, generated_at=generated_at))


def _is_same(item: Binding, other: Binding | None) -> bool:
    return other is not None and (type(item), item.namespace, item.name) == (
        type(other),
        other.namespace,
        other.name,
    )


def _subject(server: MCPServer, item: Binding) -> tuple[str, str, str]:
    """As it is rendered: its team is the server's where it names none."""
    subject = item.subject
    return subject.human_id, subject.agent_id, subject.team_id or server.team_id


def _may_both_match(one: tuple[str, str, str], other: tuple[str, str, str]) -> bool:
    """Whether some caller is meant by both; only those decide together."""
    return all(not a or not b or a == b for a, b in zip(one, other, strict=True))

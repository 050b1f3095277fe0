"""The policy that decided, rebuilt from the history of its objects; or the current one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from backend.ports.access_store import AccessStore
from backend.ports.event_store import EventStore
from extauthz.core.compile import compile_document
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.governance import read_change
from extauthz.core.history import Recorded, access_at
from extauthz.core.model import MCPServer
from extauthz.core.policy import Policy
from extauthz.core.remedies import Access
from extauthz.core.render import render
from extauthz.core.times import format_instant

# An edit may be noticed so much later, or earlier, than the decision point did.
LATENCY: Final = timedelta(seconds=10)
UNLIKE: Final = (
    "its revision is another one: an edit was undone before it was noticed, or happened while"
    " nothing recorded it"
)


class Match(StrEnum):
    """How well a policy is known to be the one that decided."""

    EXACT = "exact"  # its revision is the recorded one
    NEAREST = "nearest"  # what the history says; its revision is another one, or none was recorded
    UNKNOWN = "unknown"
    CURRENT = "current"


@dataclass(frozen=True, slots=True)
class Known:
    """A policy, and how far it is to be trusted.

    Args:
        policy, access: None where they are not known.
        note: why it is no exact match; empty where it is, or is the current one.
    """

    match: Match
    policy: Policy | None = None
    access: Access | None = None
    note: str = ""


def current(access: AccessStore, server: ObjectRef, cluster: str, now: datetime) -> Known:
    """What the access store says now.

    Raises:
        NotFound: no such server.
        Retryable: it cannot be read.
    """
    found = Access(
        access.get(MCPServer, server.namespace, server.name).resource,
        access.grants(),
        access.sessions(),
    )
    try:
        return Known(Match.CURRENT, _compiled(found, cluster, now), found)
    except Invalid as error:
        return Known(Match.UNKNOWN, note=f"the objects make no policy: {error}")


def rebuilt(
    store: EventStore, server: ObjectRef, cluster: str, revision: str, at: datetime
) -> Known:
    """The policy of a server at some time.

    Args:
        revision: of the policy that decided then; empty where that is not known.

    Raises:
        Retryable: the store is away.
    """
    nearest = _at(store, server, cluster, at)
    if not revision:
        note = "nothing recorded says which policy decided"
        return nearest if nearest.note else replace(nearest, note=note)
    for moment in (at, at - LATENCY, at + LATENCY):
        close = nearest if moment == at else _at(store, server, cluster, moment)
        if close.policy and close.policy.facts.revision == revision:
            return Known(Match.EXACT, close.policy, close.access)
    return nearest if nearest.note else replace(nearest, note=UNLIKE)


def _at(store: EventStore, server: ObjectRef, cluster: str, at: datetime) -> Known:
    past = access_at(_recorded(store, server, at), server, at.timestamp())
    why = "; ".join(past.gaps[:3])
    if past.access is None:
        return Known(Match.UNKNOWN, note=why)
    try:
        policy = _compiled(past.access, cluster, at)
    except Invalid as error:
        return Known(Match.UNKNOWN, note=f"the recorded objects make no policy: {error}")
    return Known(Match.NEAREST, policy, past.access, why)


def _recorded(store: EventStore, server: ObjectRef, at: datetime) -> Sequence[Recorded]:
    found = []
    for event in store.changes(at, server.name):
        try:
            found.append(Recorded(event.event_time.timestamp(), read_change(event.payload)))
        except Invalid:  # nobody's change: the revision tells whether something is missing
            continue
    return found


def _compiled(access: Access, cluster: str, at: datetime) -> Policy:
    document = render(
        access.server,
        access.grants,
        access.sessions,
        generated_at=format_instant(at.timestamp()),
        cluster=cluster,
    )
    return compile_document(document)

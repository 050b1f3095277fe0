"""The custom resources as they were at some time, from the changes that were recorded. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.governance import Change
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer, Resource
from extauthz.core.remedies import Access
from extauthz.core.resources import parse_object
from extauthz.core.writing import Object


@dataclass(frozen=True, slots=True)
class Recorded:
    """A change, and when it was noticed, seconds since the epoch."""

    at: float
    change: Change


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a server's objects at some time.

    Args:
        access: None where not even the server is known.
        gaps: what is not known, in words; then the rest is all there is.
    """

    access: Access | None
    gaps: tuple[str, ...] = ()


def access_at(recorded: Iterable[Recorded], server: ObjectRef, at: float) -> Past:
    """The server's objects at `at` (seconds since the epoch).

    Args:
        recorded: of each object the last change until `at`, or else the first one after it.
    """
    resources: list[Resource] = []
    gaps: list[str] = []
    for each in recorded:
        change, which = each.change, "after" if each.at <= at else "before"
        written: Object | None = getattr(change, which)
        name = f"{change.key.kind} {change.key.namespace}/{change.key.name}"
        if which in change.left_out:
            gaps.append(f"{name} was too large to be recorded")
        elif written is not None:
            try:
                resources.append(parse_object(written))
            except Invalid as error:
                gaps.append(f"{name} cannot be read any more ({error})")
    servers = (item for item in resources if isinstance(item, MCPServer))
    found = next((s for s in servers if ObjectRef(s.namespace, s.name) == server), None)
    if found is None:
        return Past(None, (*gaps, f"no MCPServer `{server}` was recorded by then"))
    return Past(
        Access(
            found,
            [item for item in resources if isinstance(item, MCPAccessGrant)],
            [item for item in resources if isinstance(item, MCPAgentSession)],
        ),
        tuple(gaps),
    )

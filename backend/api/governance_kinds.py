"""Grants and sessions over HTTP: what is answered, and what the two differ in."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Generic

import msgspec

from backend.access_forms import Grant, Session, grant_form, session_form
from backend.api.governance_bodies import GrantPatch, GrantSent, SessionPatch, SessionSent
from backend.api.governance_preview import Preview
from backend.ports.access_store import Binding, Stored
from extauthz.core.model import MCPAccessGrant, MCPAgentSession


class GrantList(msgspec.Struct, frozen=True, omit_defaults=True):
    """By namespace and name; `next` is what to give as `after`, left out behind the last one."""

    grants: list[Grant]
    next: str = ""


class SessionList(msgspec.Struct, frozen=True, omit_defaults=True):
    """By namespace and name; `next` is what to give as `after`, left out behind the last one."""

    sessions: list[Session]
    next: str = ""


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What goes with an answer.

    Args:
        warnings: what of the object has no effect, or too much.
        dry_run: nothing was changed; `effect` is what it would have done.
    """

    warnings: list[str] = msgspec.field(default_factory=list)
    dry_run: bool = False
    effect: Preview | None = None


class GrantAnswer(Said, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One grant."""

    grant: Grant


class SessionAnswer(Said, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One session."""

    session: Session


class Done(Said, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What was asked for is done: the object as it is now, but where it was deleted."""

    success: bool
    name: str
    namespace: str
    disabled: bool | msgspec.UnsetType = msgspec.UNSET
    revoked: bool | msgspec.UnsetType = msgspec.UNSET
    grant: Grant | msgspec.UnsetType = msgspec.UNSET
    session: Session | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class Kind(Generic[Binding]):
    """What grants and sessions differ in, over HTTP.

    Args:
        flagged: the object with its flag set so.
        noun: of one.
        flag: the member that puts one out of force.
        off, on: the actions that set and clear it.
    """

    resource: type[Binding]
    flagged: Callable[[Binding, bool], Binding]
    noun: str
    flag: str
    off: str
    on: str
    form: Callable[[Stored[Binding]], Any]
    sent: type[Any]
    patch: type[Any]
    answer: type[Any]
    listed: type[Any]

    @property
    def nouns(self) -> str:
        return f"{self.noun}s"


GRANTS: Final[Kind[MCPAccessGrant]] = Kind(
    resource=MCPAccessGrant,
    flagged=lambda grant, is_off: replace(grant, disabled=is_off),
    noun="grant",
    flag="disabled",
    off="disable",
    on="enable",
    form=grant_form,
    sent=GrantSent,
    patch=GrantPatch,
    answer=GrantAnswer,
    listed=GrantList,
)
SESSIONS: Final[Kind[MCPAgentSession]] = Kind(
    resource=MCPAgentSession,
    flagged=lambda session, is_off: replace(session, revoked=is_off),
    noun="session",
    flag="revoked",
    off="revoke",
    on="unrevoke",
    form=session_form,
    sent=SessionSent,
    patch=SessionPatch,
    answer=SessionAnswer,
    listed=SessionList,
)

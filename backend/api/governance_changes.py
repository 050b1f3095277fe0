"""Changes grants and sessions: recorded before they are made, tightening whatever happens."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic

from backend.api.governance_attempt import Attempt
from backend.api.governance_bodies import in_body
from backend.api.governance_preview import Preview, Previews
from backend.api.refusals import bad_body, precondition_failed
from backend.auth.principal import Principal
from backend.ports.access_store import AccessStore, Binding, Edited, Stored
from backend.ports.change_log import ChangeLog
from extauthz.core.admission import check_write
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Conflict, Invalid, NotFound
from extauthz.core.findings import findings, foreign, unknown_server
from extauthz.core.governance import Action, Change, Key, server_of
from extauthz.core.model import MCPAgentSession, MCPServer
from extauthz.core.tightening import only_tightens
from extauthz.core.times import format_instant
from extauthz.core.writing import to_object

Servers = Mapping[ObjectRef, MCPServer]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted(Generic[Binding]):
    """A change that somebody asks for.

    Args:
        change: makes the new object of the old; may be called several times; None is no object.
        servers: all there are.
        expected: version that it must still have; empty for any.
        may_exist: False where it must be made anew.
    """

    kind: type[Binding]
    namespace: str
    name: str
    change: Callable[[Binding | None], Binding | None]
    by: Principal
    servers: Servers
    expected: str = ""
    may_exist: bool = True

    @property
    def key(self) -> Key:
        return Key(self.kind.__name__, self.namespace, self.name)

    def changed(self, before: Binding | None) -> Binding | None:
        """Raises: Refused where no store would take it, and what `change` does."""
        if before is not None and not self.may_exist:
            problem = f"`{self.namespace}/{self.name}` is there already"
            raise precondition_failed("If-None-Match", problem, "choose another name")
        after = self.change(before)
        if after is not None and after != before:
            try:
                check_write(before, after)
            except Invalid as error:
                raise bad_body(in_body(error.field), error.problem, error.mend) from error
        return after


class Governance:
    """What the routes of grants and sessions share.

    Args:
        access, changes: may raise Retryable.
        previews: works out what a change would do.
    """

    def __init__(self, access: AccessStore, changes: ChangeLog, previews: Previews) -> None:
        self.access, self._changes, self._previews = access, changes, previews

    def make(self, wanted: Wanted[Binding], now: datetime) -> tuple[Edited[Binding], Sequence[str]]:
        """Record the change, and make it.

        Returns:
            What was done; and what is wrong with its record, a sentence each.

        Raises:
            Refused: it has another version.
            NotFound: as `change` does.
            Invalid: where it stands; who is bound to namespaces is not told of others there.
            Retryable: it cannot be written, or cannot be recorded and takes no right away.
        """
        before = self._current(wanted)
        if not _tightens(wanted, before, wanted.changed(before), now):
            self._changes.check()  # before others have to wait for this one

        attempt = Attempt[Binding](
            self._changes,
            lambda old, new: _change(wanted, old, new),
            lambda old, new: _tightens(wanted, old, new, now),
        )
        with self._changes.editing(wanted.key):
            try:
                return self._edit(wanted, attempt), attempt.warnings
            except Conflict as error:
                raise _moved(str(error).partition(";")[0]) from error
            except Invalid as error:
                if wanted.by.namespaces is None:
                    raise
                _log.warning("an edit was refused", extra={"error": str(error)})
                problem = "other objects beside it stand in the way of this edit"
                raise Invalid("", problem, "ask who sees every namespace to look why") from error

    def _edit(self, wanted: Wanted[Binding], attempt: Attempt[Binding]) -> Edited[Binding]:
        try:
            return self.access.edit(
                wanted.kind,
                wanted.namespace,
                wanted.name,
                wanted.changed,
                before_write=attempt.record,
                expected=wanted.expected,
            )
        except Exception:
            attempt.failed(lambda: self._current(wanted))
            raise

    def preview(self, wanted: Wanted[Binding], now: datetime) -> tuple[Edited[Binding], Preview]:
        """What `make` would do. Raises as that does, but for what comes of writing."""
        stored = self._stored(wanted)
        before = stored.resource if stored else None
        after = _born(wanted.changed(before), before, now)
        _tightens(wanted, before, after, now)  # which refuses what makes no policy
        if wanted.expected and (stored is None or stored.version != wanted.expected):
            raise _moved("it was changed meanwhile, or is gone")
        effect = self._previews.of(before, after, now, wanted.by.namespaces)
        created_at = stored.created_at if stored else format_instant(now.timestamp())
        version = stored.version if stored and before == after else ""
        told = None if after is None else Stored(after, version, created_at)
        return Edited(stored, told), effect

    def servers(self) -> Servers:
        """All there are."""
        return {ObjectRef(each.namespace, each.name): each for each in self.access.servers()}

    def _current(self, wanted: Wanted[Binding]) -> Binding | None:
        stored = self._stored(wanted)
        return stored.resource if stored else None

    def _stored(self, wanted: Wanted[Binding]) -> Stored[Binding] | None:
        try:
            return self.access.get(wanted.kind, wanted.namespace, wanted.name)
        except NotFound:
            return None


def warnings(wanted: Wanted[Binding], item: Binding, now: datetime) -> list[str]:
    """What is hardly meant so in the changed object, a sentence each."""
    found = findings(item, _told(wanted.servers, item, wanted.by), now.timestamp())
    return [f"{in_body(each.field)}: {each.problem}; {each.mend}" for each in found]


def check_server(item: Binding, servers: Servers, by: Principal) -> None:
    """Its server is there and takes it.

    Raises:
        Refused: it is not, or does not; which servers exist elsewhere is not told.
    """
    told = _told(servers, item, by)
    server = told.get(item.server)
    fault = next(foreign(item, server), None) if server else unknown_server(item, told)
    if fault is not None:
        raise bad_body(in_body(fault.field), fault.problem, fault.mend)


def _told(servers: Servers, item: Binding, by: Principal) -> Servers:
    """Those that the caller may know of: in its namespaces, or taking objects from the item's."""
    if by.namespaces is None:
        return servers
    return {
        ref: server
        for ref, server in servers.items()
        if ref.namespace in by.namespaces or item.namespace in server.policy.allowed_namespaces
    }


def _tightens(
    wanted: Wanted[Binding], before: Binding | None, after: Binding | None, now: datetime
) -> bool:
    born = _born(after, before, now)  # a session's end may count from its creation
    try:
        return only_tightens(before, born, wanted.servers, now.timestamp())
    except Invalid as error:
        raise bad_body(in_body(error.field), error.problem, error.mend) from error


def _born(after: Binding | None, before: Binding | None, now: datetime) -> Binding | None:
    """With the creation time that the store would give it."""
    if not isinstance(after, MCPAgentSession):
        return after
    if isinstance(before, MCPAgentSession):
        return replace(after, created_at=before.created_at)
    return replace(after, created_at=format_instant(now.timestamp()))


def _moved(problem: str) -> Exception:
    return precondition_failed("If-Match", problem, "read it again, and decide anew")


def _change(wanted: Wanted[Binding], old: Binding | None, new: Binding | None) -> Change:
    before, after = (to_object(item) if item else None for item in (old, new))
    action = Action.DELETED if new is None else Action.CHANGED if old else Action.CREATED
    return Change(
        key=wanted.key,
        action=action,
        actor=wanted.by.name,
        server=server_of(after or before or {}),
        before=before,
        after=after,
    )

"""Grants and sessions where they are kept: in an access directory, or at an API server.

Nothing is recorded here: the backend that owns the directory watches it, and on a cluster the
controller watches the objects.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from backend.cli.objects import Done, Kind, Which, Wire
from backend.cli.wire import to_wire
from backend.ports.access_store import AccessStore
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Conflict, Invalid, NotFound, SentinelError
from extauthz.core.findings import findings, foreign, unknown_server
from extauthz.core.model import Binding, MCPServer

Change = Callable[[Any], Any]


class _Rehearsed(SentinelError):
    """All that can fail was tried. Args: new: what would stand there."""

    def __init__(self, new: Any) -> None:
        self.new = new


class StoreObjects:
    """Objects of a store.

    Args:
        tell_faults: warns of what cannot be read, before what can is told.
    """

    def __init__(self, store: AccessStore, tell_faults: Callable[[], None]) -> None:
        self._store, self._tell_faults = store, tell_faults

    def list(self, kind: Kind, which: Which) -> Sequence[Wire]:
        self._tell_faults()
        found = self._store.objects(kind.resource, which.namespace)
        return [
            to_wire(each.resource, each.created_at)
            for each in found
            if _is_meant(each.resource, which)
        ]

    def get(self, kind: Kind, namespace: str, name: str) -> Wire:
        self._tell_faults()
        try:
            found = self._store.get(kind.resource, namespace, name)
        except NotFound as error:
            raise _missing(kind, namespace, name) from error
        return to_wire(found.resource, found.created_at)

    def put(self, kind: Kind, item: Binding, *, keeps: bool, is_new: bool, is_dry: bool) -> Done:
        self._check_server(item)

        def change(before: Any) -> Any:
            if before is None:
                return item
            if is_new:
                where = f"{kind.noun} `{item.namespace}/{item.name}`"
                raise Conflict(f"{where} is there already; choose another name, or apply it")
            return replace(item, **{kind.flag: getattr(before, kind.flag)}) if keeps else item

        return self._change(kind, item.namespace, item.name, change, is_dry)

    def switch(self, kind: Kind, namespace: str, name: str, off: bool, *, is_dry: bool) -> Done:
        def change(before: Any) -> Any:
            return replace(before, **{kind.flag: off})

        return self._change(kind, namespace, name, _present(kind, namespace, name, change), is_dry)

    def delete(self, kind: Kind, namespace: str, name: str, *, is_dry: bool) -> Done:
        change = _present(kind, namespace, name, lambda _: None)
        return self._change(kind, namespace, name, change, is_dry)

    def _change(self, kind: Kind, namespace: str, name: str, change: Change, is_dry: bool) -> Done:
        def rehearsed(_old: Any, new: Any) -> None:
            if is_dry:
                raise _Rehearsed(new)

        try:
            edited = self._store.edit(
                kind.resource, namespace, name, change, before_write=rehearsed
            )
        except _Rehearsed as would:
            return self._done(would.new, "")
        after: Any = edited.after
        return self._done(after.resource, after.created_at) if after else Done(None)

    def _done(self, item: Any, created_at: str) -> Done:
        if item is None:
            return Done(None)
        found = findings(item, self._servers(item), time.time())
        warnings = [
            f"{each.field.removeprefix('spec.')}: {each.problem}; {each.mend}" for each in found
        ]
        return Done(to_wire(item, created_at), warnings)

    def _servers(self, item: Binding) -> Mapping[ObjectRef, MCPServer]:
        """Those beside its own; an account may be for that namespace alone."""
        found = self._store.servers(item.server.namespace)
        return {ObjectRef(each.namespace, each.name): each for each in found}

    def _check_server(self, item: Binding) -> None:
        """As the api does: it is there, and takes what this namespace has."""
        servers = self._servers(item)
        server = servers.get(item.server)
        fault = next(foreign(item, server), None) if server else unknown_server(item, servers)
        if fault:
            raise Invalid(fault.field, fault.problem, fault.mend)


def _present(kind: Kind, namespace: str, name: str, change: Change) -> Change:
    def present(before: Any) -> Any:
        if before is None:
            raise _missing(kind, namespace, name)
        return change(before)

    return present


def _missing(kind: Kind, namespace: str, name: str) -> NotFound:
    look = f"look at `access {kind.noun} list --all-namespaces`"
    return NotFound(f"no {kind.noun} `{namespace}/{name}`; {look}")


def _is_meant(item: Binding, which: Which) -> bool:
    return (
        which.server in ("", item.server.name)
        and which.human_id in ("", item.subject.human_id)
        and which.agent_id in ("", item.subject.agent_id)
    )

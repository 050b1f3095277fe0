"""Takes updates: what validates runs at once and is kept; what does not changes nothing."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, Final, TypeVar

from extauthz.core.compile import load_document
from extauthz.core.errors import Invalid
from extauthz.core.incremental import IncrementalPolicy, ObjectKey
from extauthz.core.manifests import Fault
from extauthz.sources.aside import LARGE_BYTES, contents, let_go
from extauthz.sources.policies import Policies
from extauthz.sources.stream.aside import Taken, Wanted, take_aside, take_here
from extauthz.sources.stream.assembly import Assembly, Update
from extauthz.sources.stream.counts import Counts, Kind
from extauthz.sources.stream.lastgood import Kept, LastGood, objects_of, open_anew, whole
from extauthz.sources.stream.options import StreamOptions
from protos.gen.policy_stream_pb2 import Acknowledgement, PolicyUpdate

_MEND_DISK: Final = "make SPOOL_DIR a folder on a writable disk with room"
_MEND_FILE: Final = "wait for the controller: its policy takes the place"
T = TypeVar("T")
_Put = dict[str, list[dict[str, Any]]]


class Intake:
    """Brings `policies` up to date, message by message.

    Args:
        options: bounds, and whose policy it is.
        policies: where the snapshot goes.
        clock: seconds since the epoch.
        counts: what became of the updates.

    Attributes:
        refused: what was wrong with the last update; None once another one runs.
        unkept: what is wrong with the file of the last known good policy.
    """

    def __init__(
        self, options: StreamOptions, policies: Policies, clock: Callable[[], float], counts: Counts
    ) -> None:
        self._options, self._policies, self._clock = options, policies, clock
        self._counts = counts
        self._incremental: IncrementalPolicy | None = None
        self._kept_at = 0.0  # when what was kept had last been confirmed
        self._store: LastGood | None = None
        self._thread = ThreadPoolExecutor(1, "last good policy")  # alone touches the file
        self._assembly = Assembly(options.max_document_bytes)
        self.refused: Invalid | None = None
        self.unkept: Fault | None = None

    @property
    def revision(self) -> str:
        """Of the document that is held; empty when none is."""
        return self._incremental.policy.facts.revision if self._incremental else ""

    @property
    def pending(self) -> bool:
        """Whether an update has begun and is not complete."""
        return self._assembly.pending

    async def load(self) -> None:
        """Read what the process before this one kept; it does not run before `run_kept`."""
        path = self._options.store
        try:
            kept = await self._in_thread(self._open)
            if kept is not None:
                taken = await self._take(kept.raw, kept.revision)
                self._incremental, self._kept_at = (
                    taken.incremental,
                    min(kept.confirmed_at, self._clock()),
                )
        except Invalid as error:
            self.unkept = Fault(str(path), 0, error.field, error.problem, _MEND_FILE)
        except (OSError, sqlite3.Error) as error:
            self.unkept = self._unkept(str(error))

    def _open(self) -> Kept | None:
        path = self._options.store
        try:
            self._store = LastGood(path)
            return self._store.read()
        except sqlite3.DatabaseError as error:
            if self._store:
                self._store.close()
            self._store = open_anew(path)
            raise Invalid("", f"is damaged ({error}), and set aside") from error

    def run_kept(self) -> None:
        """Let decide what was kept, as old as it is, where nothing runs yet."""
        if self._incremental and not self._policies.is_ready:
            now = self._clock()
            self._policies.run(self._incremental.policy, confirmed_at=self._kept_at, now=now)

    def forget(self) -> None:
        """Hold nothing that could be changed: the next update is a whole one. What runs goes on."""
        self._incremental = None

    def begin(self) -> None:
        """Another stream begins: what is incomplete will not be completed."""
        self._assembly = Assembly(self._options.max_document_bytes)

    async def take(self, message: PolicyUpdate) -> Acknowledgement | None:
        """Take one message.

        Returns:
            What to answer; None while the update is incomplete. An update that was refused has
            changed nothing.
        """
        kind = Kind.BROKEN
        try:
            update = self._assembly.add(message)
            if update is None:
                return None
            kind = _kind(update)
            await self._apply(update, kind)
        except Invalid as error:
            self._counts.refused(kind)
            self.refused = error
            return Acknowledgement(nonce=message.nonce, revision=self.revision, error=str(error))
        self.refused = None
        return Acknowledgement(nonce=update.nonce, revision=self.revision)

    async def close(self) -> None:
        """Let go of the file."""
        store, self._store = self._store, None
        if store:
            await self._in_thread(store.close)
        self._thread.shutdown(wait=False)

    async def _apply(self, update: Update, kind: Kind) -> None:
        begun = monotonic()
        if kind is Kind.FULL:
            await self._replace(update, begun)
            return
        incremental = self._incremental
        if incremental is None or self.revision != update.base:
            problem = f"changes `{update.base}`, and `{self.revision}` is held here"
            raise Invalid("base_revision", problem, "send the whole document")
        if kind is Kind.INCREMENT:
            await self._change(incremental, update, begun)
            return
        now = self._run(incremental, kind, begun)
        await self._keep(lambda store: store.confirm(update.revision, now))

    def _run(self, incremental: IncrementalPolicy, kind: Kind, begun: float) -> float:
        """The swap; the time of it."""
        now = self._clock()
        self._policies.run(incremental.policy, confirmed_at=now, now=now)
        self._counts.applied(kind, monotonic() - begun)
        return now

    async def _replace(self, update: Update, begun: float) -> None:
        if update.gone_grants or update.gone_sessions:
            mend = "send what is there alone, or the revision that it changes"
            raise Invalid("base_revision", "is empty, and something is removed", mend)
        raw = await asyncio.to_thread(whole, update.head, update.grants, update.sessions)
        taken = await self._take(raw, update.revision, keep=True)
        before, self._incremental = self._incremental, taken.incremental
        self._run(taken.incremental, Kind.FULL, begun)
        if self._store:
            self.unkept = self._unkept(taken.unkept) if taken.unkept else None
        if before:
            policy = before.policy
            kept = contents(policy.grants, policy.sessions, before.digests)
            del before, policy
            await let_go(kept)

    async def _take(self, raw: bytes, revision: str, *, keep: bool = False) -> Taken:
        options = self._options
        wanted = Wanted(
            revision=revision,
            server=options.server,
            namespace=options.namespace,
            store=str(options.store) if keep and self._store else "",
            now=self._clock(),
        )
        if len(raw) > LARGE_BYTES:
            try:
                return await take_aside(raw, wanted)
            except OSError as error:
                problem = f"could not be compiled ({error.strerror})"
                raise Invalid("$", problem, "give the decision point more memory") from error
        return await asyncio.to_thread(take_here, raw, wanted)

    async def _change(self, incremental: IncrementalPolicy, update: Update, begun: float) -> None:
        if update.bytes > LARGE_BYTES:  # calls go on meanwhile, if slower
            put = await asyncio.to_thread(_revise, incremental, update)
        else:
            put = _revise(incremental, update)
        now = self._run(incremental, Kind.INCREMENT, begun)
        objects, gone = objects_of(put, incremental.policy.facts.namespace), _gone(update)
        head = incremental.rest if update.head else None
        await self._keep(
            lambda store: store.change(
                head, objects, gone, base=update.base, revision=update.revision, now=now
            )
        )

    async def _keep(self, write: Callable[[LastGood], None]) -> None:
        """Write to the file, in its turn; a disk that takes nothing stops no update."""
        store = self._store
        if store is None:
            return
        try:
            await self._in_thread(write, store)
        except sqlite3.Error as error:
            self.unkept = self._unkept(f"the policy on disk is an older one: {error}")

    def _unkept(self, why: str) -> Fault:
        return Fault(str(self._options.store), 0, "", f"cannot be used ({why})", _MEND_DISK)

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _kind(update: Update) -> Kind:
    if not update.base:
        return Kind.FULL
    return (
        Kind.CONFIRMATION if update.is_empty and update.base == update.revision else Kind.INCREMENT
    )


def _gone(update: Update) -> list[ObjectKey]:
    grants: list[ObjectKey] = [("grant", ref.namespace, ref.name) for ref in update.gone_grants]
    return grants + [("session", ref.namespace, ref.name) for ref in update.gone_sessions]


def _revise(incremental: IncrementalPolicy, update: Update) -> _Put:
    """Change the policy; what was put."""
    put: _Put = {
        "grants": _parse("grants", update.grants),
        "sessions": _parse("sessions", update.sessions),
    }
    [head] = _parse("head", [update.head]) if update.head else [None]
    incremental.change(
        head=head,
        grants=put["grants"],
        sessions=put["sessions"],
        gone_grants=update.gone_grants,
        gone_sessions=update.gone_sessions,
        revision=update.revision,
    )
    return put


def _parse(name: str, parts: list[bytes]) -> list[dict[str, Any]]:
    found = []
    for place, part in enumerate(parts):
        try:
            found.append(load_document(part))
        except Invalid as error:
            raise Invalid(f"$.{name}[{place}]", error.problem, "send one JSON object") from None
    return found

"""Policy source `directory`: custom resources as YAML files in a folder, as on a laptop."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from extauthz.core import accessdir
from extauthz.core.compile import compile_document
from extauthz.core.decision import PolicyFacts
from extauthz.core.errors import Invalid
from extauthz.core.manifests import Fault, read_manifest
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer, Resource
from extauthz.core.policy import Policy
from extauthz.core.render import render
from extauthz.core.times import format_instant
from extauthz.sources.folder import Listing, settled, signature
from extauthz.sources.policies import Policies

_MEND_SERVER = "set MCP_SERVER_NAME and MCP_SERVER_NAMESPACE to one of them"


@dataclass(frozen=True, slots=True)
class Standing:
    """One object and its place; what stays in memory of a file."""

    resource: Resource
    file: str
    line: int

    def fault(self, problem: str, mend: str, field: str = "") -> Fault:
        return Fault(self.file, self.line, field, problem, mend)


@dataclass(frozen=True, slots=True)
class Kept:
    """A file: its last good objects, and what is wrong with it now.

    Args:
        objects: None where the file was never good.
    """

    objects: tuple[Standing, ...] | None
    faults: tuple[Fault, ...]


class Refused(Exception):
    """The objects together make no policy."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__(*map(str, faults))


class DirectorySource:
    """Keeps `policies` to what the objects in a folder say.

    A file that breaks keeps its last good objects; one that was broken from the start may
    hold a denial, so there is no policy until it is mended. Objects that contradict each
    other leave the running policy as it is.

    Args:
        folder: YAML files, in subfolders too.
        policies: where the snapshot goes.
        expected: the server to govern; empty names match the only one there.
        clock: seconds since the epoch.
        settle_seconds: how long a change must stand before it counts.
    """

    recursive = True

    def __init__(
        self,
        folder: Path,
        policies: Policies,
        *,
        expected: PolicyFacts,
        clock: Callable[[], float],
        settle_seconds: float,
    ) -> None:
        self._folder, self._policies, self._expected = folder, policies, expected
        self._clock, self._settle_seconds = clock, settle_seconds
        self._seen: Listing = {}
        self._kept: dict[Path, Kept] = {}
        self._refused: tuple[Fault, ...] = ()  # what is wrong with the objects together
        self._is_stale = True  # whether objects changed since they were last rendered

    @property
    def name(self) -> str:
        return f"directory {self._folder}"

    def folders(self) -> set[Path]:
        """Where a change shows."""
        return {self._folder.resolve()}

    async def look(self) -> None:
        """Read what changed, and run what comes of it."""
        try:
            await asyncio.to_thread(self._read)
        except OSError as error:
            name = str(error.filename or self._folder)
            problem, mend = f"cannot be read ({error.strerror})", "make it a readable folder"
            self._policies.report((*self._faults(), Fault(name, 0, "", problem, mend)))
            return
        now = self._clock()
        never_good = any(kept.objects is None for kept in self._kept.values())
        if self._is_stale and (self._policies.is_ready or not never_good):
            try:
                policy = await asyncio.to_thread(self._compile, now)
            except Refused as refused:
                self._refused = refused.faults
            else:
                self._refused = ()
                self._policies.run(policy, confirmed_at=now, now=now)
            self._is_stale = False
        faults = self._faults()
        self._policies.report(faults)
        if not faults:
            self._policies.confirm(now)

    def _faults(self) -> tuple[Fault, ...]:
        of_files = (fault for path in sorted(self._kept) for fault in self._kept[path].faults)
        return (*of_files, *self._refused)

    def _read(self) -> None:
        """Bring `_kept` up to date. Blocks.

        Raises:
            OSError: where a folder cannot be listed; nothing has changed then.
        """
        while True:
            seen = settled(self._scan, self._seen, self._settle_seconds)
            changed = [p for p, at in seen.items() if at is None or self._seen.get(p) != at]
            kept = {path: self._kept[path] for path in seen if path in self._kept}
            kept |= {path: self._read_file(path) for path in changed}
            if not changed or self._scan() == seen:
                break
        if _objects(kept) != _objects(self._kept):
            self._is_stale = True
        self._seen, self._kept = seen, kept

    def _scan(self) -> Listing:
        return {path: signature(path) for path in accessdir.find(self._folder)}

    def _read_file(self, path: Path) -> Kept:
        file = str(path.relative_to(self._folder))
        before = self._kept.get(path, Kept(None, ())).objects
        try:
            raw = accessdir.read(path)
        except OSError as error:
            fault = Fault(file, 0, "", f"cannot be read ({error.strerror})", "mend or delete it")
            return Kept(before, (fault,))
        if before and not raw.strip():
            mend = "delete the file to take its objects away"
            return Kept(before, (Fault(file, 0, "", "is empty now", mend),))
        manifest = read_manifest(raw, file)
        if manifest.faults:
            return Kept(before, manifest.faults)
        placed = manifest.objects
        return Kept(tuple(Standing(p.resource, file, p.document.line) for p in placed), ())

    def _compile(self, now: float) -> Policy:
        """One policy from all objects. Blocks."""
        standing = [s for path in sorted(self._kept) for s in self._kept[path].objects or ()]
        _refuse_duplicates(standing)
        server, place = self._choose(standing)
        resources = [s.resource for s in standing]
        try:
            document = render(
                server,
                [r for r in resources if isinstance(r, MCPAccessGrant)],
                [r for r in resources if isinstance(r, MCPAgentSession)],
                generated_at=format_instant(now),
                cluster=self._expected.cluster,
            )
            return compile_document(document)
        except Invalid as error:
            raise Refused(place.fault(error.problem, error.mend, error.field)) from error

    def _choose(self, standing: Iterable[Standing]) -> tuple[MCPServer, Standing]:
        expected = self._expected
        servers = [(s.resource, s) for s in standing if isinstance(s.resource, MCPServer)]
        chosen = [
            (server, place)
            for server, place in servers
            if expected.server in {"", server.name} and expected.namespace in {"", server.namespace}
        ]
        if len(chosen) == 1:
            return chosen[0]
        folder, names = str(self._folder), ", ".join(f"{s.namespace}/{s.name}" for s, _ in servers)
        if not servers:
            mend = "add the MCPServer that is governed here"
            raise Refused(Fault(folder, 0, "", "holds no MCPServer", mend))
        if not chosen:
            wanted = f"{expected.namespace or '*'}/{expected.server or '*'}"
            problem = f"holds no MCPServer `{wanted}` (there is {names})"
            raise Refused(Fault(folder, 0, "", problem, _MEND_SERVER))
        raise Refused(Fault(folder, 0, "", f"holds several MCPServers ({names})", _MEND_SERVER))


def _objects(kept: Mapping[Path, Kept]) -> dict[Path, tuple[Standing, ...] | None]:
    return {path: file.objects for path, file in kept.items()}


def _refuse_duplicates(standing: Iterable[Standing]) -> None:
    first: dict[tuple[str, str, str], Standing] = {}
    faults = []
    for item in standing:
        kind, resource = type(item.resource).__name__, item.resource
        other = first.setdefault((kind, resource.namespace, resource.name), item)
        if other is not item:
            name = f"{kind} `{resource.namespace}/{resource.name}`"
            problem = f"second {name} (the first is {other.file}:{other.line})"
            faults.append(item.fault(problem, "keep one of them", "metadata.name"))
    if faults:
        raise Refused(*faults)

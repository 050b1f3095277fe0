"""Policy source `directory`: custom resources as YAML files in a folder, as on a laptop."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from extauthz.core.accessreader import AccessReader, Reading, Standing
from extauthz.core.compile import compile_document
from extauthz.core.decision import PolicyFacts
from extauthz.core.errors import Invalid
from extauthz.core.manifests import Fault, Placed
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.policy import Policy
from extauthz.core.render import render
from extauthz.core.times import format_instant
from extauthz.sources.policies import Policies

_MEND_SERVER = "set MCP_SERVER_NAME and MCP_SERVER_NAMESPACE to one of them"


class NoPolicy(Exception):
    """The objects together make no policy."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__(*map(str, faults))


class DirectorySource:
    """Keeps `policies` to what the objects in a folder say.

    By the rule of `core/accessreader.py`; so there is no policy to begin with until every file
    was good once and no object stands twice.

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
        self._clock = clock
        self._reader = AccessReader(folder, keep=_nothing, settle_seconds=settle_seconds)
        self._reading: Reading[None] = Reading({}, (), {})
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
            reading = await asyncio.to_thread(self._reader.read)
        except OSError as error:
            name = str(error.filename or self._folder)
            problem, mend = f"cannot be read ({error.strerror})", "make it a readable folder"
            self._policies.report((*self._faults(), Fault(name, 0, "", problem, mend)))
            return
        if reading.objects != self._reading.objects:
            self._is_stale = True
        self._reading = reading
        now = self._clock()
        if self._is_stale and (self._policies.is_ready or reading.is_known):
            try:
                policy = await asyncio.to_thread(self._compile, reading, now)
            except NoPolicy as none:
                self._refused = none.faults
            else:
                self._refused = ()
                confirmed_at = now if reading.is_known else self._policies.current.confirmed_at
                self._policies.run(policy, confirmed_at=confirmed_at, now=now)
            self._is_stale = False
        self._policies.report(self._faults())
        if reading.is_known and not self._refused:  # what is broken keeps what it last said
            self._policies.confirm(now)

    def _faults(self) -> tuple[Fault, ...]:
        return (*self._reading.faults, *self._refused)

    def _compile(self, reading: Reading[None], now: float) -> Policy:
        """One policy from all objects. Blocks."""
        server, place = self._choose(reading.objects)
        resources = [s.resource for s in reading.objects]
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
            raise NoPolicy(place.fault(error.problem, error.mend, error.field)) from error

    def _choose(self, standing: Iterable[Standing[None]]) -> tuple[MCPServer, Standing[None]]:
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
            raise NoPolicy(Fault(folder, 0, "", "holds no MCPServer", mend))
        if not chosen:
            wanted = f"{expected.namespace or '*'}/{expected.server or '*'}"
            problem = f"holds no MCPServer `{wanted}` (there is {names})"
            raise NoPolicy(Fault(folder, 0, "", problem, _MEND_SERVER))
        raise NoPolicy(Fault(folder, 0, "", f"holds several MCPServers ({names})", _MEND_SERVER))


def _nothing(_: Placed) -> None:
    return None

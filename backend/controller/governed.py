"""The custom resources as they stand, and what a change of one does to which document. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from extauthz.core.canonical import canonical
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.governance import Key
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.render import belongs, render_binding, render_head
from extauthz.core.revision import body_digest

Binding = MCPAccessGrant | MCPAgentSession
Rendered = Mapping[str, Any]
KINDS: Final = {"MCPAccessGrant": "grant", "MCPAgentSession": "session"}
"""As digests name them."""


class Part(NamedTuple):
    """A grant or session of a document. Args: body: canonical JSON; digest: of it."""

    body: bytes
    digest: bytes


def part_of(kind: str, rendered: Rendered) -> Part:
    """Args: kind: of the custom resource."""
    body = canonical(rendered)
    return Part(body, body_digest(KINDS[kind], body))


@dataclass(frozen=True, slots=True)
class Delta:
    """What is to change in one server's document.

    Args:
        server: whose.
        head: the members beside grants and sessions; None where they stay.
        put: grants and sessions that are there now; they may be there already, as they are.
        gone: those that are not.
    """

    server: ObjectRef
    head: Rendered | None = None
    put: Mapping[Key, Part] = field(default_factory=dict)
    gone: frozenset[Key] = frozenset()


class Governed:
    """All servers with their grants and sessions.

    Args:
        cluster: its name; may be empty.

    Attributes:
        servers: by namespace and name, each as it last could be read.
        faults: why a grant or session cannot be rendered for its server.
    """

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self.servers: dict[ObjectRef, MCPServer] = {}
        self.bindings: dict[Key, Binding] = {}
        self.faults: dict[Key, Invalid] = {}
        self._named: dict[ObjectRef, set[Key]] = {}  # by the server that they name
        self._sessions: dict[ObjectRef, set[Key]] = {}  # those of them that are sessions

    def of_server(self, server: ObjectRef) -> Iterator[Key]:
        """The grants and sessions that name it, counting or not."""
        return iter(self._named.get(server, ()))

    def has_sessions(self, server: ObjectRef) -> bool:
        """Whether sessions of it count."""
        return any(self.counts(key) for key in self._sessions.get(server, ()))

    def changes_many(self, server: MCPServer, most: int) -> bool:
        """Whether to take it would render more than `most` grants and sessions."""
        ref = ObjectRef(server.namespace, server.name)
        before = self.servers.get(ref)
        is_alike = before is not None and _rules_of_rendering(before) == _rules_of_rendering(server)
        return not is_alike and len(self._named.get(ref, ())) > most

    def head_of(self, server: MCPServer, generated_at: str) -> Rendered:
        """The members of its document beside grants and sessions."""
        return render_head(server, generated_at=generated_at, cluster=self._cluster)

    def put_server(self, server: MCPServer, generated_at: str) -> Delta:
        """Take a server as it is now."""
        ref = ObjectRef(server.namespace, server.name)
        keys = self._named.get(ref, set()) if self.changes_many(server, 0) else set()
        return self._delta(server, self.head_of(server, generated_at), keys)

    def remove_server(self, ref: ObjectRef) -> None:
        """It is there no more; its grants and sessions wait for it."""
        self.servers.pop(ref, None)

    def put(self, key: Key, binding: Binding | None) -> list[Delta]:
        """Take a grant or session as it is now; None where there is none that can be read."""
        before = self.bindings.pop(key, None)
        self.faults.pop(key, None)
        if before is not None:
            for index in (self._named, self._sessions):
                index.get(before.server, set()).discard(key)
        if binding is not None:
            self.bindings[key] = binding
            self._named.setdefault(binding.server, set()).add(key)
            if isinstance(binding, MCPAgentSession):
                self._sessions.setdefault(binding.server, set()).add(key)
        touched = {each.server for each in (before, binding) if each is not None}
        known = (ref for ref in touched if ref in self.servers)
        return [self._delta(self.servers[ref], None, {key}) for ref in sorted(known, key=str)]

    def counts(self, key: Key) -> bool:
        """Whether it stands in a document."""
        binding = self.bindings.get(key)
        server = self.servers.get(binding.server) if binding else None
        return bool(server and binding and belongs(server, binding) and key not in self.faults)

    def rendered(
        self, server: MCPServer, keys: Iterable[Key]
    ) -> tuple[dict[Key, Part], dict[Key, Invalid]]:
        """Those that count for a server, and why others cannot be rendered for it."""
        put: dict[Key, Part] = {}
        faults: dict[Key, Invalid] = {}
        for key in keys:
            binding = self.bindings.get(key)
            if binding is None or not belongs(server, binding):
                continue
            try:
                put[key] = part_of(key.kind, render_binding(server, binding))
            except Invalid as error:
                faults[key] = error
        return put, faults

    def take(self, server: MCPServer, put: Iterable[Key], faults: Mapping[Key, Invalid]) -> None:
        """A server is as it is now, and so is what was rendered for it."""
        self.servers[ObjectRef(server.namespace, server.name)] = server
        for key in [each for each in put if each in self.faults] if self.faults else ():
            del self.faults[key]
        self.faults.update(faults)

    def _delta(self, server: MCPServer, head: Rendered | None, keys: set[Key]) -> Delta:
        put, faults = self.rendered(server, keys)
        self.take(server, put, faults)
        ref = ObjectRef(server.namespace, server.name)
        return Delta(ref, head, put, frozenset(keys - put.keys()))


def _rules_of_rendering(server: MCPServer) -> object:
    """What of a server decides how its grants and sessions are rendered."""
    session = server.session
    lifetime = session.max_lifetime if session.enforce_max_lifetime else None
    return server.team_id, server.policy.allowed_namespaces, lifetime

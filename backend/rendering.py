"""The policy documents of servers, rendered as sidecars get them, from what stands there now."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backend.ports.access_store import AccessStore
from extauthz.core.compile import compile_document
from extauthz.core.errors import Conflict, Invalid
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.policy import Policy
from extauthz.core.render import render
from extauthz.core.times import format_instant


@dataclass(frozen=True, slots=True)
class Bindings:
    """All grants and sessions, read once for several servers."""

    grants: Sequence[MCPAccessGrant]
    sessions: Sequence[MCPAgentSession]

    @classmethod
    def of(cls, access: AccessStore) -> "Bindings":
        """Those of every namespace, for a server may admit others' than its own."""
        return cls(access.grants(), access.sessions())


@dataclass(frozen=True, slots=True)
class Rendered:
    """A policy document.

    Args:
        fault: why no sidecar would run it; empty where one would.
        policy: the document compiled; None where it has a fault.
    """

    document: dict[str, Any]
    fault: str = ""
    policy: Policy | None = None

    @property
    def digest(self) -> str:
        """By which sidecars and events name it; empty where there is none."""
        return str(self.document.get("content_digest", ""))

    @property
    def text(self) -> str:
        """The document as JSON, for people."""
        return json.dumps(self.document, indent=2, ensure_ascii=False)


def rendered(server: MCPServer, bindings: Bindings, cluster: str, now: datetime) -> Rendered:
    """The document of a server.

    Args:
        cluster: name of the cluster, as its sidecars have it.
    """
    try:
        document = render(
            server,
            bindings.grants,
            bindings.sessions,
            generated_at=format_instant(now.timestamp()),
            cluster=cluster,
        )
        policy = compile_document(document)
    except Invalid as error:
        return Rendered({}, str(error))
    return Rendered(document, policy=policy)


def compiled(server: MCPServer, bindings: Bindings, cluster: str, now: datetime) -> Policy:
    """The policy of a server. Raises: Conflict: its objects make none."""
    found = rendered(server, bindings, cluster, now)
    if found.policy is None:
        where = f"`{server.namespace}/{server.name}`"
        problem = f"the objects of {where} make no policy: {found.fault}"
        raise Conflict(f"{problem}; see `sentinel policy check`")
    return found.policy

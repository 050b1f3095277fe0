"""What reaches the gate, before and after it is read."""

from typing import Final

import msgspec

from extauthz.core.code import Code

# Of one request, as Envoy may be told to buffer it; more is never decided about.
MAX_BODY_BYTES: Final = 16 << 20


class Request(msgspec.Struct, frozen=True, gc=False):
    """One HTTP request as Envoy hands it over; no meaning is read into it yet.

    Args:
        method: HTTP method, as sent.
        path: path and query, as sent.
        headers: (lower-case name, raw value) in order; repeated headers stand repeatedly.
        body: the whole body.
        peer: IP address of the direct downstream peer; empty when unknown.
        id: Envoy's x-request-id.
        host, scheme: of the URL that the client asked for; empty when unknown.
    """

    method: str
    path: str
    headers: tuple[tuple[str, bytes], ...] = ()
    body: bytes = b""
    peer: str = ""
    id: str = ""
    host: str = ""
    scheme: str = ""


class Kind(Code):
    """What one HTTP request carries."""

    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"  # an answer to a server's own request (sampling, elicitation)
    NONE = "none"  # no message: GET, HEAD, DELETE, OPTIONS


class Era(Code):
    """Protocol era: legacy up to revision 2025-11-25, modern from 2026-07-28."""

    LEGACY = "legacy"
    MODERN = "modern"


class Call(msgspec.Struct, frozen=True, gc=False):
    """What the message asks for; the outcome of the strict parse.

    Args:
        kind: request, notification, response or none.
        method: JSON-RPC method; empty for responses and for kind none.
        tool: `params.name` of tools/call; empty otherwise.
        rpc_id: the request's id, None where there is none.
        era: by protocol version.
        protocol_version: the revision the message claims; empty where none is.
        arguments_digest: `sha256:…` over the canonical JSON of the tool's arguments.
    """

    kind: Kind = Kind.REQUEST
    method: str = ""
    tool: str = ""
    rpc_id: str | int | None = None
    era: Era = Era.LEGACY
    protocol_version: str = ""
    arguments_digest: str = ""

    @property
    def is_tool_call(self) -> bool:
        """True where policy applies. mcp-runtime's `call_tool` counts as `tools/call`."""
        return self.method in {"tools/call", "call_tool"}


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who calls. Empty fields are unknown; values compare exactly."""

    human_id: str = ""
    agent_id: str = ""
    team_id: str = ""
    session_id: str = ""

    @property
    def is_empty(self) -> bool:
        """A session alone identifies nobody."""
        return not (self.human_id or self.agent_id or self.team_id)


NO_CALL = Call(kind=Kind.NONE)
NOBODY = Identity()

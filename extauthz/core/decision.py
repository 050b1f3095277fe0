"""A decision, as a value. Denial is a value too, never an exception."""

from dataclasses import dataclass

import msgspec
from msgspec.structs import force_setattr, replace

from extauthz.core.code import Code
from extauthz.core.reasons import Reason
from extauthz.core.request import NO_CALL, NOBODY, Call, Identity


class Effect(Code):
    """What becomes of the request."""

    ALLOW = "allow"
    DENY = "deny"


_ALLOW = Effect.ALLOW  # a member is slow to look up on its class


class DenyStyle(Code):
    """The form in which a denied tools/call is answered."""

    JSONRPC = "jsonrpc"  # HTTP 200 with a JSON-RPC error
    TOOL_RESULT = "tool_result"  # HTTP 200 with a result that has isError
    HTTP_403 = "http_403"  # the status and body of mcp-runtime's own gateway


class ObjectRef(msgspec.Struct, frozen=True, gc=False):
    """A namespaced object."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Trust(msgspec.Struct, frozen=True, gc=False):
    """Trust levels of one evaluation: `low`, `medium`, `high`, or empty where not reached."""

    required: str = ""
    admin: str = ""
    consented: str = ""
    effective: str = ""


@dataclass(frozen=True, slots=True)
class Would:
    """What `observe` mode would have decided."""

    effect: Effect
    reason: Reason


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """What a decision says of the policy behind it; made once for each snapshot.

    Args:
        server, namespace, cluster: the governed MCP server.
        team_id: the server's owner.
        mode: `allow-list` or `observe`; empty without a policy.
        version: `policy.policy_version`.
        revision: content digest of the document; empty without a policy.
        deny_style: how denied tool calls are answered.
        identity_headers: lower-case names of the headers that identity comes from: human, agent,
            team, session.
        sets_identity: these headers are taken from the request and set anew from the verified
            identity before the server gets it (mode oauth).
    """

    server: str = ""
    namespace: str = ""
    cluster: str = ""
    team_id: str = ""
    mode: str = ""
    version: str = ""
    revision: str = ""
    deny_style: DenyStyle = DenyStyle.JSONRPC
    identity_headers: tuple[str, ...] = ()
    sets_identity: bool = False


NO_TRUST = Trust()


class Decision(msgspec.Struct, frozen=True, gc=False):
    """One decision, with all that explains it.

    Args:
        effect, reason: what, and the first row of the decision table that applied.
        policy: facts of the policy that decided.
        call: what was asked; `NO_CALL` where the parse refused.
        identity: who asked; `NOBODY` where not reached.
        trust: levels compared in row 10.
        side_effect: the tool's declared class; empty when unknown.
        risk: the tool's risk level, declared or derived; empty when unknown.
        tool_declared: whether the server declares the tool.
        grant: the grant that allowed, denied, or came furthest.
        session: the session that counted.
        policy_version: of the grant or session where one is set, else the policy's.
        would: in observe mode, what would have been decided; else None.
        detail: for rows 1 and 2b, what is wrong, in words for the caller; never quotes arguments.
        resource_metadata: URL where the server says how to sign in (RFC 9728); only where a token
            is missing or not valid.
        id: the decision's id (UUIDv7, = event_id); empty until it is recorded.
    """

    effect: Effect
    reason: Reason
    policy: PolicyFacts
    call: Call = NO_CALL
    identity: Identity = NOBODY
    trust: Trust = NO_TRUST
    side_effect: str = ""
    risk: str = ""
    tool_declared: bool = False
    grant: ObjectRef | None = None
    session: ObjectRef | None = None
    policy_version: str = ""
    would: Would | None = None
    detail: str = ""
    resource_metadata: str = ""
    id: str = ""

    @property
    def allowed(self) -> bool:
        return self.effect is _ALLOW

    def identified(self, id: str) -> "Decision":
        """This decision with its id, which is set but once: one that has an id is copied."""
        if self.id:
            return replace(self, id=id)
        # A copy for each call would cost twice what making the decision does.
        force_setattr(self, "id", id)
        return self

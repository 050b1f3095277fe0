"""The custom resources of `mcpruntime.org/v1alpha1`, as values.

The governance part; fields of MCPServer that belong to mcp-runtime alone pass unread.
"""

from dataclasses import dataclass

from extauthz.core.decision import DenyStyle, Effect, ObjectRef

API_VERSION = "mcpruntime.org/v1alpha1"
DEFAULT_NAMESPACE = "mcp-servers"

TRUST_LEVELS = ("low", "medium", "high")
SIDE_EFFECTS = ("read", "write", "destructive")
AUTH_MODES = ("none", "header", "oauth")
POLICY_MODES = ("allow-list", "observe")
DECISIONS = tuple(effect.value for effect in Effect)
DENY_STYLES = tuple(style.value for style in DenyStyle)
GUARDS = ("whenSet", "required")

# The headers that carry identity, and a token, where a server names no others.
HUMAN_HEADER, AGENT_HEADER, TEAM_HEADER = "X-MCP-Human-ID", "X-MCP-Agent-ID", "X-MCP-Team-ID"
SESSION_HEADER, TOKEN_HEADER = "X-MCP-Agent-Session", "Authorization"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a grant or session is for; fields that are empty match anybody's."""

    human_id: str = ""
    agent_id: str = ""
    team_id: str = ""


@dataclass(frozen=True, slots=True)
class Claims:
    """Token claims that carry identity (oauth mode); empty means the usual ones."""

    human_id: str = ""
    agent_id: str = ""
    team_id: str = ""
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class Auth:
    """How callers are identified (`spec.auth`)."""

    mode: str
    human_id_header: str
    agent_id_header: str
    team_id_header: str
    session_id_header: str
    token_header: str
    issuer_url: str
    audience: str
    jwks_url: str
    claims: Claims
    trusted_peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """How calls are decided (`spec.policy`)."""

    mode: str
    default_decision: str
    policy_version: str
    deny_style: str
    unknown_methods: str
    side_effect_guard: str
    max_staleness: str
    allowed_namespaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """What is asked of sessions (`spec.session`). idleTimeout is shown, not enforced."""

    required: bool
    header_name: str
    max_lifetime: str
    enforce_max_lifetime: bool
    idle_timeout: str


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """One tool that the server declares."""

    name: str
    description: str
    required_trust: str
    side_effect: str
    risk_level: str
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MCPServer:
    """A governed MCP server."""

    namespace: str
    name: str
    team_id: str
    auth: Auth
    policy: PolicySpec
    session: SessionSpec
    tools: tuple[ToolSpec, ...]


@dataclass(frozen=True, slots=True)
class ToolRule:
    """One line of a grant: a tool, allowed or denied, perhaps above a trust level."""

    name: str
    decision: str
    required_trust: str


@dataclass(frozen=True, slots=True)
class MCPAccessGrant:
    """Who may call which tools of a server, how far trusted, for how long."""

    namespace: str
    name: str
    server: ObjectRef
    subject: Subject
    max_trust: str
    tool_rules: tuple[ToolRule, ...]
    allowed_side_effects: tuple[str, ...]
    policy_version: str
    disabled: bool
    expires_at: str


@dataclass(frozen=True, slots=True)
class MCPAgentSession:
    """A subject's session with a server, with the trust that was consented to."""

    namespace: str
    name: str
    server: ObjectRef
    subject: Subject
    consented_trust: str
    expires_at: str
    revoked: bool
    policy_version: str
    created_at: str


# What binds a subject to a server.
Binding = MCPAccessGrant | MCPAgentSession
Resource = MCPServer | Binding

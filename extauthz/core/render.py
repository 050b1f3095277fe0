"""Custom resources to one policy document (extauthz/README.md)."""

from collections.abc import Iterable
from typing import Any

from extauthz.core.errors import Invalid
from extauthz.core.model import (
    Auth,
    MCPAccessGrant,
    MCPAgentSession,
    MCPServer,
    PolicySpec,
    SessionSpec,
    Subject,
    ToolSpec,
)
from extauthz.core.revision import compatible_revision, content_digest
from extauthz.core.times import format_instant, parse_duration, parse_instant

SCHEMA_VERSION = "v1"


def belongs(server: MCPServer, item: MCPAccessGrant | MCPAgentSession) -> bool:
    """True where the object names this server and its namespace may speak for it."""
    names_it = (item.server.namespace, item.server.name) == (server.namespace, server.name)
    return names_it and (
        item.namespace == server.namespace or item.namespace in server.policy.allowed_namespaces
    )


def render(
    server: MCPServer,
    grants: Iterable[MCPAccessGrant],
    sessions: Iterable[MCPAgentSession],
    *,
    generated_at: str,
    cluster: str = "",
) -> dict[str, Any]:
    """Render the document that a sidecar of `server` runs.

    Objects that do not belong to the server are left out. The same objects give the
    same document, whatever their order, but for `generated_at`.

    Args:
        generated_at: RFC 3339.
        cluster: the cluster's name; may be empty.

    Raises:
        Invalid: where an object cannot be rendered for this server.
    """
    document = render_head(server, generated_at=generated_at, cluster=cluster)
    for name, items in (("grants", grants), ("sessions", sessions)):
        counting = sorted((item for item in items if belongs(server, item)), key=_key)
        if counting:
            document[name] = [render_binding(server, item) for item in counting]
    document["revision"] = compatible_revision(document)
    document["content_digest"] = content_digest(document)
    return document


def render_head(server: MCPServer, *, generated_at: str, cluster: str = "") -> dict[str, Any]:
    """The document without grants and sessions, and without digests. Arguments as for `render`."""
    head: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "generated_at": generated_at,
        "server": _set(
            name=server.name, namespace=server.namespace, team_id=server.team_id, cluster=cluster
        ),
        "auth": _auth(server.auth),
        "policy": _policy(server.policy),
        "session": _session_spec(server.session),
        "tools": [_tool(tool) for tool in server.tools],
    }
    return {name: value for name, value in head.items() if value or name == "session"}


def render_binding(server: MCPServer, item: MCPAccessGrant | MCPAgentSession) -> dict[str, Any]:
    """One grant or session, as it stands in the server's document.

    Raises:
        Invalid: it cannot be rendered for this server.
    """
    if isinstance(item, MCPAccessGrant):
        return _grant(server, item)
    return _session(server, item)


def _auth(auth: Auth) -> dict[str, Any]:
    return _set(
        mode=auth.mode,
        human_id_header=auth.human_id_header,
        agent_id_header=auth.agent_id_header,
        team_id_header=auth.team_id_header,
        session_id_header=auth.session_id_header,
        token_header=auth.token_header,
        issuer_url=auth.issuer_url,
        audience=auth.audience,
        jwks_url=auth.jwks_url,
        claims=_set(
            human_id=auth.claims.human_id,
            agent_id=auth.claims.agent_id,
            team_id=auth.claims.team_id,
            session_id=auth.claims.session_id,
        ),
        trusted_peers=list(auth.trusted_peers),
    )


def _policy(policy: PolicySpec) -> dict[str, Any]:
    return _set(
        mode=policy.mode,
        default_decision=policy.default_decision,
        enforce_on="call_tool",
        policy_version=policy.policy_version,
        side_effect_guard=policy.side_effect_guard,
        deny_style=policy.deny_style,
        unknown_methods=policy.unknown_methods,
        max_staleness=policy.max_staleness,
    )


def _session_spec(session: SessionSpec) -> dict[str, Any]:
    return _set(
        required=session.required,
        header_name=session.header_name,
        max_lifetime=session.max_lifetime,
        idle_timeout=session.idle_timeout,
    )


def _grant(server: MCPServer, grant: MCPAccessGrant) -> dict[str, Any]:
    return _set(
        name=_rendered_name(server, grant),
        namespace=grant.namespace,
        **_subject(server, grant.subject),
        max_trust=grant.max_trust,
        allowed_side_effects=list(grant.allowed_side_effects),
        policy_version=grant.policy_version,
        disabled=grant.disabled,
        expires_at=grant.expires_at,
        tool_rules=[
            _set(name=rule.name, decision=rule.decision, required_trust=rule.required_trust)
            for rule in grant.tool_rules
        ],
    )


def _session(server: MCPServer, session: MCPAgentSession) -> dict[str, Any]:
    return _set(
        name=_rendered_name(server, session),
        namespace=session.namespace,
        **_subject(server, session.subject),
        consented_trust=session.consented_trust,
        revoked=session.revoked,
        expires_at=_session_end(server, session),
        policy_version=session.policy_version,
    )


def _session_end(server: MCPServer, session: MCPAgentSession) -> str:
    """The earlier of expiresAt and creation + maxLifetime, where the server enforces that."""
    if not server.session.enforce_max_lifetime:
        return session.expires_at
    if not session.created_at:
        where = f"{session.namespace}/{session.name}: metadata.creationTimestamp"
        mend = "set it, or drop enforceMaxLifetime from the server"
        raise Invalid(where, "is needed where the server enforces maxLifetime", mend)
    lifetime = parse_duration(server.session.max_lifetime, "spec.session.maxLifetime")
    end = parse_instant(session.created_at, "metadata.creationTimestamp") + lifetime
    if session.expires_at:
        end = min(end, parse_instant(session.expires_at, "spec.expiresAt"))
    return format_instant(end)


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return _set(
        name=tool.name,
        description=tool.description,
        required_trust=tool.required_trust,
        side_effect=tool.side_effect,
        risk_level=tool.risk_level,
        labels=dict(tool.labels),
    )


def _subject(server: MCPServer, subject: Subject) -> dict[str, str]:
    """A subject without a team belongs to the server's, when the server has one."""
    return {
        "human_id": subject.human_id,
        "agent_id": subject.agent_id,
        "team_id": subject.team_id or server.team_id,
    }


def _rendered_name(server: MCPServer, item: MCPAccessGrant | MCPAgentSession) -> str:
    """Two namespaces may share a name; an object of another one carries its own."""
    return item.name if item.namespace == server.namespace else f"{item.namespace}/{item.name}"


def _key(item: MCPAccessGrant | MCPAgentSession) -> tuple[str, str]:
    return item.namespace, item.name


def _set(**members: Any) -> dict[str, Any]:
    """Only what is set: empty and false members are never written."""
    return {name: value for name, value in members.items() if value}

"""Custom resources as JSON types again, and what changes one into another.

Only what Sentinel reads is written: members of MCPServer that are mcp-runtime's alone, which
may hold secrets, never are.
"""

from collections.abc import Mapping
from typing import Any

from extauthz.core.model import (
    API_VERSION,
    Auth,
    MCPAccessGrant,
    MCPAgentSession,
    MCPServer,
    PolicySpec,
    Resource,
    SessionSpec,
    Subject,
    ToolSpec,
)

Object = dict[str, Any]


def to_object(resource: Resource) -> Object:
    """The custom resource: `parse_object` of it gives `resource` again."""
    metadata = {"name": resource.name, "namespace": resource.namespace}
    match resource:
        case MCPServer():
            spec = _server(resource)
        case MCPAccessGrant():
            spec = _grant(resource)
        case MCPAgentSession():
            spec = _session(resource)
            metadata |= _set(creationTimestamp=resource.created_at)
    kind = type(resource).__name__
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> Object:
    """What RFC 7386 needs to make `after` of `before`; lists are replaced as a whole.

    A flag that is gone becomes false, which says more to people than null.
    """
    gone = before.keys() - after.keys()
    patch: Object = {name: False if before[name] is True else None for name in sorted(gone)}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            if inner := merge_patch(old, value):
                patch[name] = inner
        elif name not in before or old != value:
            patch[name] = value
    return patch


def _server(server: MCPServer) -> Object:
    return _set(
        teamID=server.team_id,
        auth=_auth(server.auth),
        policy=_policy(server.policy),
        session=_session_spec(server.session),
        tools=[_tool(tool) for tool in server.tools],
    )


def _auth(auth: Auth) -> Object:
    claims = auth.claims
    return _set(
        mode=auth.mode,
        humanIDHeader=auth.human_id_header,
        agentIDHeader=auth.agent_id_header,
        teamIDHeader=auth.team_id_header,
        sessionIDHeader=auth.session_id_header,
        tokenHeader=auth.token_header,
        issuerURL=auth.issuer_url,
        audience=auth.audience,
        jwksURL=auth.jwks_url,
        claims=_set(
            humanID=claims.human_id,
            agentID=claims.agent_id,
            teamID=claims.team_id,
            sessionID=claims.session_id,
        ),
        trustedPeers=list(auth.trusted_peers),
    )


def _policy(policy: PolicySpec) -> Object:
    return _set(
        mode=policy.mode,
        defaultDecision=policy.default_decision,
        policyVersion=policy.policy_version,
        denyStyle=policy.deny_style,
        unknownMethods=policy.unknown_methods,
        sideEffectGuard=policy.side_effect_guard,
        maxStaleness=policy.max_staleness,
        allowedNamespaces=list(policy.allowed_namespaces),
    )


def _session_spec(session: SessionSpec) -> Object:
    return _set(
        required=session.required,
        headerName=session.header_name,
        maxLifetime=session.max_lifetime,
        enforceMaxLifetime=session.enforce_max_lifetime,
        idleTimeout=session.idle_timeout,
    )


def _tool(tool: ToolSpec) -> Object:
    return _set(
        name=tool.name,
        description=tool.description,
        requiredTrust=tool.required_trust,
        sideEffect=tool.side_effect,
        riskLevel=tool.risk_level,
        labels=dict(tool.labels),
    )


def _grant(grant: MCPAccessGrant) -> Object:
    return _set(
        serverRef=_set(name=grant.server.name, namespace=grant.server.namespace),
        subject=_subject(grant.subject),
        maxTrust=grant.max_trust,
        toolRules=[
            _set(name=rule.name, decision=rule.decision, requiredTrust=rule.required_trust)
            for rule in grant.tool_rules
        ],
        allowedSideEffects=list(grant.allowed_side_effects),
        policyVersion=grant.policy_version,
        disabled=grant.disabled,
        expiresAt=grant.expires_at,
    )


def _session(session: MCPAgentSession) -> Object:
    return _set(
        serverRef=_set(name=session.server.name, namespace=session.server.namespace),
        subject=_subject(session.subject),
        consentedTrust=session.consented_trust,
        expiresAt=session.expires_at,
        revoked=session.revoked,
        policyVersion=session.policy_version,
    )


def _subject(subject: Subject) -> Object:
    return _set(humanID=subject.human_id, agentID=subject.agent_id, teamID=subject.team_id)


def _set(**members: Any) -> Object:
    """Only what is set: empty and false members are the defaults."""
    return {name: value for name, value in members.items() if value}

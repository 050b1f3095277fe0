"""Custom resources: defaults, and what is refused with which path and mend."""

from typing import Any

import pytest
from objects import grant, obj, server, session

from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer, Subject
from extauthz.core.resources import parse_object


def test_server_defaults() -> None:
    """A server that says nothing denies by default and takes identity from headers."""
    parsed = parse_object(server())
    assert isinstance(parsed, MCPServer)
    assert (parsed.auth.mode, parsed.auth.agent_id_header) == ("header", "X-MCP-Agent-ID")
    assert (parsed.policy.mode, parsed.policy.default_decision) == ("allow-list", "deny")
    assert (parsed.policy.policy_version, parsed.policy.side_effect_guard) == ("v1", "whenSet")
    assert (parsed.session.required, parsed.session.max_lifetime) == (False, "24h")
    assert parsed.session.enforce_max_lifetime is False


def test_unknown_fields_of_servers_pass() -> None:
    """An MCPServer carries much that belongs to mcp-runtime alone."""
    spec: dict[str, Any] = {
        "image": "x",
        "ports": [1],
        "gateway": {"enabled": True},
        "auth": {"x": 1},
    }
    assert isinstance(parse_object(server(**spec)), MCPServer)


def test_grant_defaults() -> None:
    """Unset trust is low, unset decision allow, and the server is in the grant's namespace."""
    parsed = parse_object(grant(serverRef={"name": "srv"}, toolRules=[{"name": "t"}]))
    assert isinstance(parsed, MCPAccessGrant)
    assert (parsed.max_trust, parsed.tool_rules[0].decision) == ("low", "allow")
    assert (parsed.server, parsed.subject) == (ObjectRef("ns", "srv"), Subject(agent_id="a"))


def test_session_of_mcp_runtime() -> None:
    """A session as mcp-runtime writes it is read, its upstream token reference unread."""
    parsed = parse_object(
        session(
            consentedTrust="medium",
            expiresAt="2027-01-01T00:00:00Z",
            upstreamTokenSecretRef={"name": "x", "key": "y"},
        )
    )
    assert isinstance(parsed, MCPAgentSession)
    assert (parsed.consented_trust, parsed.revoked) == ("medium", False)


REFUSED = [
    (None, "", "must be an object"),
    (obj("MCPGrant", "g", {}), "kind", "MCPAccessGrant"),
    (obj("MCPServer", "g", {}) | {"apiVersion": "v1"}, "apiVersion", "mcpruntime.org/v1alpha1"),
    (obj("MCPServer", "g", {}) | {"specs": {}}, "specs", "did you mean `spec`"),
    (obj("MCPServer", "UPPER", {}), "metadata.name", "lower-case"),
    (obj("MCPServer", "", {}), "metadata.name", "set `name`"),
    (obj("MCPServer", "a", {}, "b/c"), "metadata.namespace", "lower-case"),
    (server(auth={"mode": "mtls"}), "spec.auth.mode", "not supported"),
    (server(auth={"mode": "jwt"}), "spec.auth.mode", "none, header or oauth"),
    (server(auth={"mode": "oauth"}), "spec.auth.issuerURL", "required"),
    (server(auth={"mode": "oauth", "issuerURL": "https://i"}), "spec.auth.audience", "required"),
    (
        server(auth={"mode": "oauth", "issuerURL": "http://i.example", "audience": "a"}),
        "spec.auth.issuerURL",
        "https",
    ),
    (server(auth={"humanIDHeader": "X_Human"}), "spec.auth.humanIDHeader", "underscore"),
    (server(auth={"trustedPeers": ["10.0.0.1/8"]}), "spec.auth.trustedPeers[0]", "CIDR"),
    (server(policy={"defaultDecison": "allow"}), "spec.policy.defaultDecison", "defaultDecision"),
    (server(policy={"mode": "Observe"}), "spec.policy.mode", "allow-list or observe"),
    (server(policy={"maxStaleness": "soon"}), "spec.policy.maxStaleness", "24h"),
    (server(session={"required": "yes"}), "spec.session.required", "true or false"),
    (server(session={"requird": True}), "spec.session.requird", "did you mean `required`"),
    (server(tools=[{"name": "a"}, {"name": "a"}]), "spec.tools[1].name", "keep one"),
    (server(tools=[{"name": "a", "sideEffect": "none"}]), "spec.tools[0].sideEffect", "read"),
    (server(tools={"name": "a"}), "spec.tools", "must be a list"),
    (grant(subject={}), "spec.subject", "set humanID"),
    (grant(subject={"agentId": "a"}), "spec.subject.agentId", "did you mean `agentID`"),
    (grant(subject={"agentID": 7}), "spec.subject.agentID", "quote it"),
    (grant(subject={"agentID": " a"}), "spec.subject.agentID", "white space"),
    (grant(maxTrust="hihg"), "spec.maxTrust", "low, medium or high"),
    (grant(expiresAT="2027-01-01T00:00:00Z"), "spec.expiresAT", "did you mean `expiresAt`"),
    (grant(expiresAt="tomorrow"), "spec.expiresAt", "2026-12-31T23:59:59Z"),
    (grant(expiresAt="2026-02-30T00:00:00Z"), "spec.expiresAt", "RFC 3339"),
    (grant(expiresAt="2026-02-03T00:00:00"), "spec.expiresAt", "RFC 3339"),
    (grant(toolRules=[{"name": "t", "decision": "permit"}]), "spec.toolRules[0].decision", "allow"),
    (grant(toolRules=[{"name": "t"}, {"name": "t"}]), "spec.toolRules[1].name", "keep one"),
    (grant(toolRules=[{"tool": "t"}]), "spec.toolRules[0].tool", "known"),
    (grant(allowedSideEffects=[]), "spec.allowedSideEffects", "leave it out"),
    (grant(allowedSideEffects=["delete"]), "spec.allowedSideEffects[0]", "destructive"),
    (grant(disabled="false"), "spec.disabled", "unquoted"),
    (grant(serverRef={}), "spec.serverRef.name", "required"),
    (session(consentedTrust="full"), "spec.consentedTrust", "low, medium or high"),
    (session(revoked=1), "spec.revoked", "true or false"),
]


@pytest.mark.parametrize(("value", "field", "words"), REFUSED)
def test_refused(value: object, field: str, words: str) -> None:
    """A bad object is refused with the path of the field and a mend."""
    with pytest.raises(Invalid) as caught:
        parse_object(value)
    assert caught.value.field == field
    assert words in str(caught.value)

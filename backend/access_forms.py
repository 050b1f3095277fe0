"""Grants and sessions in JSON, as existing tools of mcp-runtime know them, and the rest of ours."""

import msgspec

from backend.ports.access_store import Stored
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, Subject


class NamedServer(msgspec.Struct, frozen=True):
    """The MCP server that an object is about."""

    name: str
    namespace: str


class NamedSubject(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    rename={"human_id": "humanID", "agent_id": "agentID", "team_id": "teamID"},
):
    """Whom it is for; what is left out may be anybody's."""

    human_id: str = ""
    agent_id: str = ""
    team_id: str = ""


class RuleForm(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One rule of a grant."""

    name: str
    decision: str
    required_trust: str = ""


class Grant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A grant; `age` is when it was made, empty where nobody knows."""

    name: str
    namespace: str
    server_ref: NamedServer
    subject: NamedSubject
    max_trust: str
    disabled: bool
    age: str
    policy_version: str = ""
    expires_at: str = ""
    tool_rules: list[RuleForm] = msgspec.field(default_factory=list)
    allowed_side_effects: list[str] = msgspec.field(default_factory=list)


class Session(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A session; `age` is when it was made, empty where nobody knows."""

    name: str
    namespace: str
    server_ref: NamedServer
    subject: NamedSubject
    consented_trust: str
    revoked: bool
    age: str
    expires_at: str = ""
    policy_version: str = ""


def grant_form(stored: Stored[MCPAccessGrant]) -> Grant:
    """A grant as it is shown."""
    grant = stored.resource
    return Grant(
        name=grant.name,
        namespace=grant.namespace,
        server_ref=NamedServer(grant.server.name, grant.server.namespace),
        subject=_subject(grant.subject),
        max_trust=grant.max_trust,
        disabled=grant.disabled,
        age=stored.created_at,
        policy_version=grant.policy_version,
        expires_at=grant.expires_at,
        tool_rules=[
            RuleForm(rule.name, rule.decision, rule.required_trust) for rule in grant.tool_rules
        ],
        allowed_side_effects=list(grant.allowed_side_effects),
    )


def session_form(stored: Stored[MCPAgentSession]) -> Session:
    """A session as it is shown."""
    session = stored.resource
    return Session(
        name=session.name,
        namespace=session.namespace,
        server_ref=NamedServer(session.server.name, session.server.namespace),
        subject=_subject(session.subject),
        consented_trust=session.consented_trust,
        revoked=session.revoked,
        age=stored.created_at,
        expires_at=session.expires_at,
        policy_version=session.policy_version,
    )


def _subject(subject: Subject) -> NamedSubject:
    return NamedSubject(subject.human_id, subject.agent_id, subject.team_id)

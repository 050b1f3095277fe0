"""What the members of a call's event say."""

import msgspec
import pytest

from extauthz.core.decision import Decision, Effect, ObjectRef, PolicyFacts, Trust, Would
from extauthz.core.events import Asked, call_payload
from extauthz.core.reasons import Reason
from extauthz.core.request import Call, Identity

ASKED = Asked("POST", "/mcp", "request-id", "trace-id")
GATEWAY = {"gateway": "a-gateway", "gateway_start": "a-start", "sequence": 7}
FACTS = PolicyFacts("a-server", "a-namespace", "a-cluster", "a-team", "observe", "v3", "sha256:r")
ALL = Decision(
    Effect.ALLOW,
    Reason.ALLOWED,
    FACTS,
    call=Call(
        method="tools/call",
        tool="a-tool",
        protocol_version="2025-06-18",
        arguments_digest="sha256:a",
    ),
    identity=Identity("ann", "ops", "their-team", "s-1"),
    trust=Trust("low", "medium", "high", "none"),
    side_effect="write",
    risk="grave",
    grant=ObjectRef("grants", "a-grant"),
    session=ObjectRef("sessions", "a-session"),
    policy_version="v4",
    would=Would(Effect.DENY, Reason.TOOL_DENIED),
    id="a-decision",
)
ALWAYS = {
    "decision_id": "a-decision",
    "request_id": "request-id",
    "method": "POST",
    "path": "/mcp",
    "server": "a-server",
    "namespace": "a-namespace",
    "cluster": "a-cluster",
    "team_id": "a-team",
    "human_id": "ann",
    "agent_id": "ops",
    "subject_team_id": "their-team",
    "session_id": "s-1",
    "decision": "allow",
    "reason": "allowed",
    "mode": "observe",
    "policy_version": "v4",
    "policy_revision": "sha256:r",
    "gateway": "a-gateway",
    "gateway_start": "a-start",
    "sequence": 7,
}
KNOWN = {
    "rpc_method": "tools/call",
    "tool_name": "a-tool",
    "tool_undeclared": True,
    "protocol_version": "2025-06-18",
    "arguments_digest": "sha256:a",
    "required_trust": "low",
    "admin_trust": "medium",
    "consented_trust": "high",
    "effective_trust": "none",
    "required_side_effect": "write",
    "risk_level": "grave",
    "matched_grant": "a-grant",
    "matched_grant_namespace": "grants",
    "matched_session": "a-session",
    "matched_session_namespace": "sessions",
    "would_decision": "deny",
    "would_reason": "tool_denied",
}
BARE = Decision(Effect.DENY, Reason.MALFORMED_JSON, PolicyFacts())


@pytest.mark.parametrize(
    ("decision", "members"),
    [
        (ALL, ALWAYS | KNOWN),
        (
            BARE,
            dict.fromkeys(ALWAYS, "")
            | {"request_id": "request-id", "method": "POST", "path": "/mcp"}
            | {"decision": "deny", "reason": "malformed_json"}
            | GATEWAY,
        ),
    ],
)
def test_each_member_says_what_its_name_says(decision: Decision, members: object) -> None:
    """Those of a call's own are always there, the others where they are known."""
    payload = call_payload(decision, ASKED, **GATEWAY)
    assert msgspec.json.decode(msgspec.json.encode(payload)) == members

"""What adopting a policy would change."""

import json
from typing import Any

import pytest

from backend.cli.adoption import RUNTIME, SENTINEL, Difference, differences, judge
from backend.ports.adoption import PolicyMap
from backend.rendering import Rendered
from extauthz.core.compile import compile_document

OAUTH = {"mode": "oauth", "issuer_url": "https://issuer.example", "audience": "shop"}
END = "2099-01-01T00:00:00.000Z"
OURS: dict[str, Any] = {
    "server": {"name": "shop", "namespace": "ns"},
    "tools": [{"name": "buy", "required_trust": "high", "side_effect": "write"}],
    "grants": [
        {"name": "ops", "namespace": "ns", "agent_id": "a", "max_trust": "high"},
        {"name": "o/ops", "namespace": "o", "agent_id": "a", "tool_rules": [{"name": "buy"}]},
    ],
    "sessions": [{"name": "s", "namespace": "ns", "agent_id": "a", "expires_at": END}],
}


def _found(manager: str = RUNTIME, **members: Any) -> PolicyMap:
    known = {"is_of_server": True, "adopted_from": "", "text": json.dumps(OURS), "version": "1"}
    return PolicyMap(manager, **known | members)


def _ours(document: Any = OURS) -> Rendered:
    return Rendered(document, policy=compile_document(document))


def _told(theirs: Any) -> list[str]:
    return [str(each) for each in differences(json.dumps(theirs), OURS)]


@pytest.mark.parametrize(
    ("found", "state", "why"),
    [
        (None, "absent", ""),
        (_found(SENTINEL), "ours", ""),
        (_found(), "theirs", ""),
        (_found("Helm"), "kept", "kept by `Helm`"),
        (_found(""), "kept", "nobody that is named"),
        (_found(is_of_server=False), "kept", "another MCPServer of that name; delete it"),
        (_found(SENTINEL, is_of_server=False), "kept", "delete it"),
    ],
)
def test_whose_it_is_decides(found: PolicyMap | None, state: str, why: str) -> None:
    """Only mcp-runtime's is taken over, and never one of a server that is gone."""
    verdict = judge(found, _ours())
    assert verdict.state == state
    assert why in verdict.why
    assert not verdict.differences


def test_what_makes_no_policy_here_stays() -> None:
    """Else nothing would stand there."""
    verdict = judge(_found(), Rendered({}, "spec.auth.mode: `mtls` is not supported yet"))
    assert verdict.state == "kept"
    assert "`mtls`" in verdict.why


def test_what_is_spelled_otherwise_is_the_same() -> None:
    """Defaults written out, names without their namespace, what no decision reads."""
    theirs = OURS | {
        "schema_version": "v1",
        "generated_at": "2026-07-01T00:00:00Z",
        "policy": {"mode": "allow-list", "default_decision": "deny"},
        "session": {"store": "kubernetes"},
        "tools": [OURS["tools"][0] | {"description": "Buys.", "labels": {"a": "b"}}],
        "grants": [
            {"name": "ops", "agent_id": "a", "max_trust": "high", "disabled": False},
            {
                "name": "ops",
                "namespace": "o",
                "agent_id": "a",
                "max_trust": "low",
                "tool_rules": [{"name": "buy", "decision": "allow", "required_trust": "low"}],
            },
        ],
    }
    assert _told(theirs) == []


def test_every_part_is_compared() -> None:
    """Settings first; a part that stands in one alone is told as a whole."""
    session = {"name": "s", "namespace": "ns", "agent_id": "b", "expires_at": END, "revoked": True}
    theirs = {
        "server": OURS["server"] | {"team_id": "t"},
        "auth": OAUTH,
        "tools": [{"name": "buy", "required_trust": "low", "side_effect": "write"}],
        "grants": [OURS["grants"][0] | {"tool_rules": [{"name": "buy", "decision": "deny"}]}],
        "sessions": [session | {"upstream_token_ref": "tokens/a"}],
    }
    assert _told(theirs) == [
        "settings: audience: `shop` there, nothing in ours",
        "settings: identity: `oauth` there, `header` in ours",
        "settings: issuer: `https://issuer.example` there, nothing in ours",
        "settings: owner team: `t` there, nothing in ours",
        "settings: token header: `authorization` there, nothing in ours",
        "grant ns/ops: covers: `tools of its rules` there, `every tool` in ours",
        "grant ns/ops: rule buy: `deny` there, nothing in ours",
        "grant o/ops: is in ours alone",
        "session ns/s: agent: `b` there, `a` in ours",
        "session ns/s: revoked: `yes` there, nothing in ours",
        "session ns/s: upstream token: `tokens/a` there, nothing in ours",
        "tool buy: required trust: `low` there, `high` in ours",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "one JSON object"), ("[]", "JSON object"), ('{"auth": {"mode": "mtls"}}', "`mtls`")],
)
def test_what_no_sidecar_would_run_differs(text: str, why: str) -> None:
    """With the reason."""
    (told,) = differences(text, OURS)
    assert told.part == "document"
    assert why in told.theirs
    assert isinstance(told, Difference)

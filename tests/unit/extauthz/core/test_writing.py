"""Custom resources written as JSON types again."""

from typing import Any

import pytest
from objects import grant, server, session

from extauthz.core.resources import parse_object
from extauthz.core.writing import merge_patch, to_object

FULL_SERVER = server(
    teamID="t",
    auth={
        "mode": "oauth",
        "issuerURL": "https://issuer.example",
        "audience": "mcp",
        "jwksURL": "https://keys.example",
        "humanIDHeader": "X-Human",
        "claims": {"humanID": "email"},
        "trustedPeers": ["10.0.0.0/8"],
    },
    policy={
        "mode": "observe",
        "defaultDecision": "allow",
        "policyVersion": "v7",
        "denyStyle": "http_403",
        "unknownMethods": "deny",
        "sideEffectGuard": "required",
        "maxStaleness": "5m",
        "allowedNamespaces": ["other"],
    },
    session={"required": True, "headerName": "X-S", "maxLifetime": "2h",
             "enforceMaxLifetime": True, "idleTimeout": "5m"},
    tools=[{"name": "wipe", "description": "d", "requiredTrust": "high",
            "sideEffect": "destructive", "riskLevel": "high", "labels": {"a": "", "b": "c"}}],
)  # fmt: skip
FULL_GRANT = grant(
    subject={"humanID": "h", "agentID": "a", "teamID": "t"},
    maxTrust="high",
    toolRules=[{"name": "wipe", "decision": "deny", "requiredTrust": "high"}],
    allowedSideEffects=["read"],
    policyVersion="v2",
    disabled=True,
    expiresAt="2026-06-01T12:00:00Z",
)
FULL_SESSION = session(
    created="2026-06-01T12:00:00Z",
    consentedTrust="medium",
    expiresAt="2026-06-01T13:00:00Z",
    revoked=True,
    policyVersion="v2",
)


@pytest.mark.parametrize(
    "written", [FULL_SERVER, FULL_GRANT, FULL_SESSION, server(), grant(), session()]
)
def test_what_is_written_reads_the_same(written: Any) -> None:
    """No field that Sentinel reads is lost."""
    resource = parse_object(written)
    assert parse_object(to_object(resource)) == resource


def test_what_sentinel_does_not_read_is_not_written() -> None:
    """A secret in another part of an object goes nowhere."""
    resource = parse_object(server(env=[{"name": "TOKEN", "value": "hunter2"}]))
    assert "hunter2" not in repr(to_object(resource))


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2, "b": 3}, {"a": 2, "b": 3}),
        ({"a": "x", "b": True}, {}, {"a": None, "b": False}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"a": {"c": 3}}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_a_merge_patch_says_what_differs(before: Any, after: Any, patch: Any) -> None:
    """Objects member by member, lists as a whole."""
    assert merge_patch(before, after) == patch

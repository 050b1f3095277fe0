"""Custom resources written as JSON types again."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from objects import grant, server, session

from extauthz.core.decision import ObjectRef
from extauthz.core.model import (
    Auth,
    Claims,
    MCPAccessGrant,
    MCPAgentSession,
    MCPServer,
    PolicySpec,
    Resource,
    SessionSpec,
    Subject,
    ToolRule,
    ToolSpec,
)
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


TEXT = st.text(min_size=1, max_size=8).filter(lambda text: text == text.strip())
NAME = st.from_regex(r"[a-z][a-z0-9]{0,5}(-[a-z0-9]{1,3})?", fullmatch=True)
HEADER = st.from_regex(r"Not-[A-Z][a-z]{1,5}", fullmatch=True)
INSTANT = st.datetimes().map(lambda at: at.isoformat(timespec="seconds").zfill(19) + "Z")
HIGHER = st.sampled_from(["medium", "high"])
MINUTES = st.integers(1, 900).map("{}m".format)


def whole(kind: type[Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Every field of a class, none left to its default: a new field fails here first."""
    assert fields.keys() == {field.name for field in dataclasses.fields(kind)}
    return st.builds(kind, **fields)


def some(one: st.SearchStrategy[Any], key: Any = None) -> st.SearchStrategy[Any]:
    """A few of them."""
    return st.lists(one, min_size=1, max_size=3, unique_by=key).map(tuple)


SUBJECT = whole(Subject, human_id=TEXT, agent_id=TEXT, team_id=TEXT)
REF = st.builds(ObjectRef, NAME, NAME)
RESOURCES = st.one_of(
    whole(
        MCPServer,
        namespace=NAME,
        name=NAME,
        team_id=TEXT,
        auth=whole(
            Auth,
            mode=st.just("oauth"),
            human_id_header=HEADER,
            agent_id_header=HEADER,
            team_id_header=HEADER,
            session_id_header=HEADER,
            token_header=HEADER,
            issuer_url=TEXT,
            audience=TEXT,
            jwks_url=NAME.map("https://keys.example/{}".format),
            claims=whole(Claims, human_id=TEXT, agent_id=TEXT, team_id=TEXT, session_id=TEXT),
            trusted_peers=some(st.integers(0, 255).map("10.{}.0.0/16".format)),
        ),
        policy=whole(
            PolicySpec,
            mode=st.just("observe"),
            default_decision=st.just("allow"),
            policy_version=TEXT.filter(lambda text: text != "v1"),
            deny_style=st.sampled_from(["http_403", "tool_result"]),
            unknown_methods=st.just("deny"),
            side_effect_guard=st.just("required"),
            max_staleness=MINUTES,
            allowed_namespaces=some(NAME),
        ),
        session=whole(
            SessionSpec,
            required=st.just(True),
            header_name=HEADER,
            max_lifetime=MINUTES,
            enforce_max_lifetime=st.just(True),
            idle_timeout=MINUTES,
        ),
        tools=some(
            whole(
                ToolSpec,
                name=TEXT,
                description=TEXT,
                required_trust=HIGHER,
                side_effect=st.sampled_from(["read", "write", "destructive"]),
                risk_level=HIGHER,
                labels=some(st.tuples(TEXT, TEXT), lambda label: label[0]).map(
                    lambda labels: tuple(sorted(labels))
                ),
            ),
            lambda tool: tool.name,
        ),
    ),
    whole(
        MCPAccessGrant,
        namespace=NAME,
        name=NAME,
        server=REF,
        subject=SUBJECT,
        max_trust=HIGHER,
        tool_rules=some(
            whole(ToolRule, name=TEXT, decision=st.just("deny"), required_trust=HIGHER),
            lambda rule: rule.name,
        ),
        allowed_side_effects=some(st.sampled_from(["read", "write", "destructive"])),
        policy_version=TEXT,
        disabled=st.just(True),
        expires_at=INSTANT,
    ),
    whole(
        MCPAgentSession,
        namespace=NAME,
        name=NAME,
        server=REF,
        subject=SUBJECT,
        consented_trust=HIGHER,
        expires_at=INSTANT,
        revoked=st.just(True),
        policy_version=TEXT,
        created_at=INSTANT,
    ),
)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(RESOURCES)
def test_no_field_is_lost(resource: Resource) -> None:
    """Every field of the model, with any value but its default, is written and read again."""
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

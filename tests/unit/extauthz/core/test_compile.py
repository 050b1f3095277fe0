"""A document that does not validate is refused, with its JSON path and the mend."""

from dataclasses import replace
from typing import Any

import pytest

from extauthz.core.compile import compile_document, load_document
from extauthz.core.errors import Invalid

SERVER = {"name": "srv", "namespace": "ns"}

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"server": {}}, "$.server.name", "required"),
    ({"schema_version": "v2"}, "$.schema_version", "use v1"),
    ({"policy": {"mode": "enforce"}}, "$.policy.mode", "allow-list or observe"),
    ({"policy": {"default_decision": "maybe"}}, "$.policy.default_decision", "allow or deny"),
    ({"policy": {"enforce_on": "all"}}, "$.policy.enforce_on", "call_tool"),
    ({"policy": {"max_staleness": "10s"}}, "$.generated_at", "needed"),
    ({"policy": {"deny_style": "x"}}, "$.policy.deny_style", "jsonrpc"),
    ({"auth": {"mode": "mtls"}}, "$.auth.mode", "not supported"),
    ({"auth": {"mode": "jwt"}}, "$.auth.mode", "header"),
    ({"auth": {"human_id_header": "X-MCP-Agent-ID"}}, "$.auth", "one header"),
    ({"auth": {"trusted_peers": ["x"]}}, "$.auth.trusted_peers[0]", "CIDR"),
    (
        {"auth": {"session_id_header": "A"}, "session": {"header_name": "B"}},
        "$.session.header_name",
        "set one",
    ),
    ({"session": {"required": "true"}}, "$.session.required", "true or false"),
    ({"tools": [{"name": "a"}, {"name": "a"}]}, "$.tools[1].name", "keep one"),
    ({"tools": [{"name": ""}]}, "$.tools[0].name", "required"),
    ({"grants": [{"name": "a", "max_trust": "huge"}]}, "$.grants[0].max_trust", "low, medium"),
    ({"grants": [{"name": "a"}, {"name": "a"}]}, "$.grants[1].name", "keep one"),
    ({"grants": [{"name": "a", "expires_at": "x"}]}, "$.grants[0].expires_at", "RFC 3339"),
    ({"grants": [{"name": "a", "disabled": "no"}]}, "$.grants[0].disabled", "true or false"),
    (
        {"grants": [{"name": "a", "tool_rules": [{"name": "t", "decision": "Deny"}]}]},
        "$.grants[0].tool_rules[0].decision",
        "allow or deny",
    ),
    (
        {"grants": [{"name": "a", "allowed_side_effects": ["x"]}]},
        "$.grants[0].allowed_side_effects[0]",
        "read",
    ),
    ({"grants": {}}, "$.grants", "must be a list"),
    ({"grants": [3]}, "$.grants[0]", "must be an object"),
    ({"sessions": [{"name": "a"}, {"name": "a"}]}, "$.sessions[1].name", "keep one"),
    ({"content_digest": "sha256:00"}, "$.content_digest", "does not fit"),
    ({"revision": "sha256:00"}, "$.revision", "does not fit"),
]


@pytest.mark.parametrize(("members", "field", "words"), REFUSED)
def test_refused(members: dict[str, Any], field: str, words: str) -> None:
    """The error names the JSON path and the mend."""
    with pytest.raises(Invalid) as caught:
        compile_document({"server": SERVER} | members)
    assert caught.value.field == field
    assert words in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"a":1,"a":2}', b"\xff"])
def test_bytes_that_are_no_document(raw: bytes) -> None:
    """Bytes are read as strictly as requests are."""
    with pytest.raises(Invalid):
        load_document(raw)


def test_the_least_document() -> None:
    """A server's name is enough: everything is denied by default."""
    assert compile_document({"server": SERVER}).default.value == "deny"


def test_unknown_members_pass() -> None:
    """Documents of newer producers run as long as what we know is valid."""
    newer = {"server": SERVER, "new": 1, "policy": {"new": 1}, "auth": {"new": []}}
    policy = compile_document(newer)
    known = compile_document({"server": SERVER})
    assert replace(policy, facts=known.facts) == known  # but for the digests


def test_two_namespaces_may_share_a_grants_name() -> None:
    """Grants are told apart by namespace and name."""
    whose = {"name": "a", "agent_id": "ops-agent"}
    grants = [{"namespace": "ns", **whose}, {"namespace": "other", **whose}]
    policy = compile_document({"server": SERVER, "grants": grants})
    held = [grant for each in policy.grants.values() for grant in each.grants]
    assert sorted(str(grant.ref) for grant in held) == ["ns/a", "other/a"]


def test_the_session_header_that_was_changed_counts() -> None:
    """Two settings name the session's header; the one that differs from the default wins."""
    for members in (
        {"auth": {"session_id_header": "X-Mine"}},
        {"session": {"header_name": "X-Mine"}},
        {"session": {"header_name": "X-Mine"}, "auth": {"session_id_header": "X-Mine"}},
    ):
        assert compile_document({"server": SERVER} | members).headers.session == "x-mine"

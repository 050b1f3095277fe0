"""Custom resources to documents, and the digests that name them."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from objects import grant, server, session

from extauthz.core.compile import compile_document
from extauthz.core.errors import Invalid
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.render import render
from extauthz.core.resources import parse_object
from extauthz.core.revision import compatible_revision

FOREIGN = json.loads((Path(__file__).parent / "data/mcp-runtime-policy.json").read_text())


def rendered(*objects: Any, cluster: str = "") -> dict[str, Any]:
    parsed = [parse_object(item) for item in objects]
    (found,) = [item for item in parsed if isinstance(item, MCPServer)]
    return render(
        found,
        [item for item in parsed if isinstance(item, MCPAccessGrant)],
        [item for item in parsed if isinstance(item, MCPAgentSession)],
        generated_at="2026-01-01T00:00:00Z",
        cluster=cluster,
    )


def test_order_never_matters() -> None:
    """The same objects give the same document, whatever their order."""
    objects = [server(), grant("b"), grant("a"), session("y"), session("x")]
    documents = [rendered(*order) for order in itertools.permutations(objects)]
    assert all(document == documents[0] for document in documents)


def test_every_change_changes_the_content_digest() -> None:
    """The content digest covers objects and the rest, ours and mcp-runtime's members alike."""
    documents = [
        rendered(server(), grant()),
        rendered(server(), grant(maxTrust="high")),
        rendered(server(), grant(expiresAt="2027-01-01T00:00:00Z")),
        rendered(server(policy={"denyStyle": "http_403"}), grant()),
        rendered(server(), grant(), session()),
        rendered(server(), grant(), cluster="c"),
    ]
    assert len({document["content_digest"] for document in documents}) == len(documents)


def test_a_rendered_document_compiles() -> None:
    """What render writes, compile reads, digests included."""
    document = rendered(server(teamID="t", tools=[{"name": "x"}]), grant(), session())
    assert compile_document(document).facts.revision == document["content_digest"]
    assert compile_document(json.loads(json.dumps(document))).facts.team_id == "t"


def test_a_subject_without_team_gets_the_servers() -> None:
    """Grants and sessions belong to the server's team, when it has one."""
    document = rendered(
        server(teamID="t"), grant(), session(), grant("own", subject={"teamID": "u"})
    )
    assert [item["team_id"] for item in document["grants"]] == ["t", "u"]
    assert document["sessions"][0]["team_id"] == "t"
    assert "team_id" not in rendered(server(), grant())["grants"][0]


def test_other_namespaces_count_only_where_the_server_lists_them() -> None:
    """A foreign object counts by allowedNamespaces, and is named namespace/name."""
    foreign = grant("g", namespace="other")
    assert "grants" not in rendered(server(), foreign)
    allowed = rendered(server(policy={"allowedNamespaces": ["other"]}), foreign, grant("g"))
    assert [item["name"] for item in allowed["grants"]] == ["g", "other/g"]


def test_objects_of_other_servers_are_left_out() -> None:
    """A grant counts only for the server that it names."""
    other = grant(serverRef={"name": "another"})
    elsewhere = grant("h", serverRef={"name": "srv", "namespace": "elsewhere"})
    assert "grants" not in rendered(server(), other, elsewhere)


def test_enforced_lifetime_is_folded_into_the_expiry() -> None:
    """The earlier of expiresAt and creation + maxLifetime, only where enforced."""
    enforcing = server(session={"enforceMaxLifetime": True, "maxLifetime": "1h"})
    made = {"created": "2026-01-01T00:00:00Z"}
    ends = {
        "": "2026-01-01T01:00:00.000Z",
        "2026-01-01T00:30:00Z": "2026-01-01T00:30:00.000Z",
        "2026-01-02T00:00:00Z": "2026-01-01T01:00:00.000Z",
    }
    for expires_at, end in ends.items():
        document = rendered(enforcing, session(expiresAt=expires_at, **made))
        assert document["sessions"][0]["expires_at"] == end
    assert "expires_at" not in rendered(server(), session(**made))["sessions"][0]
    with pytest.raises(Invalid, match="creationTimestamp"):
        rendered(enforcing, session())


def test_mcp_runtimes_revision() -> None:
    """The compatible revision is what mcp-runtime's rule gives (made with encoding/json)."""
    assert compatible_revision(FOREIGN) == FOREIGN["revision"]


def test_mcp_runtimes_document_compiles() -> None:
    """A document as mcp-runtime's operator renders it runs here; a changed one is refused."""
    policy = compile_document(FOREIGN)
    assert set(policy.tools) == {"list_invoices", "refund_invoice"}
    assert set(policy.sessions) == {"s-1"}
    changed = FOREIGN | {"server": {"name": "other", "namespace": "mcp-servers"}}
    with pytest.raises(Invalid, match=r"\$\.revision"):
        compile_document(changed)


def test_no_member_is_empty_or_false() -> None:
    """mcp-runtime writes no empty and no false members, and neither do we."""
    document = rendered(server(), grant(), session())

    def empties(value: Any) -> Any:
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, dict | list):
                yield from empties(item)
            elif not item:
                yield item

    assert list(empties(document)) == []

"""What every AccessStore must do, run against each adapter."""

from pathlib import Path

import pytest

from backend.adapters.directory import DirectoryStore
from backend.ports.access_store import AccessStore
from extauthz.core.errors import NotFound
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer

OBJECTS = """
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: shop, namespace: mcp-servers}
spec: {}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: ops, namespace: mcp-servers}
spec: {serverRef: {name: shop}, subject: {agentID: ops-agent}, maxTrust: low}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: ops, namespace: another}
spec: {serverRef: {name: shop}, subject: {agentID: ops-agent}}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAgentSession
metadata: {name: s1, namespace: mcp-servers}
spec: {serverRef: {name: shop}, subject: {agentID: ops-agent}, consentedTrust: low}
"""


def directory(folder: Path, objects: str) -> AccessStore:
    (folder / "objects.yaml").write_text(objects)
    return DirectoryStore(folder)


@pytest.fixture(params=[directory], ids=lambda adapter: adapter.__name__)
def access(request: pytest.FixtureRequest, tmp_path: Path) -> AccessStore:
    store: AccessStore = request.param(tmp_path, OBJECTS)
    return store


def test_objects_are_listed_by_namespace(access: AccessStore) -> None:
    """A blank namespace means all; lists are sorted."""
    access.ping()
    assert [g.namespace for g in access.grants()] == ["another", "mcp-servers"]
    assert [g.namespace for g in access.grants("mcp-servers")] == ["mcp-servers"]
    assert [s.name for s in access.servers()] == ["shop"]
    assert [s.name for s in access.sessions("mcp-servers")] == ["s1"]
    assert access.sessions("another") == []


def test_an_object_is_got_by_name(access: AccessStore) -> None:
    """Namespace and name together name one object."""
    assert access.get(MCPAccessGrant, "another", "ops").resource.subject.agent_id == "ops-agent"
    assert access.get(MCPServer, "mcp-servers", "shop").resource.name == "shop"
    assert access.get(MCPAgentSession, "mcp-servers", "s1").resource.name == "s1"


def test_a_missing_object_is_not_found(access: AccessStore) -> None:
    """The error names the object."""
    with pytest.raises(NotFound, match="another/shop"):
        access.get(MCPServer, "another", "shop")

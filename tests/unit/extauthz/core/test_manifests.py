"""A file's custom resources, and its faults with file, line, field and mend."""

from extauthz.core.manifests import read_manifest
from extauthz.core.model import MCPAccessGrant

GRANT = """\
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: NAME, namespace: team-a}
spec:
  serverRef: {name: demo}
  subject: {agentID: ops}
  expiresAt: 2026-12-31T23:59:59Z
  toolRules:
  - name: echo
    decision: allow
"""


def test_objects() -> None:
    """Every document of our group becomes an object that knows where it stands."""
    manifest = read_manifest((GRANT.replace("NAME", "a") + "---\n" + GRANT).encode(), "g.yaml")
    first = manifest.objects[0]
    assert isinstance(first.resource, MCPAccessGrant)
    assert first.resource.expires_at == "2026-12-31T23:59:59Z"
    assert str(first.fault("spec.subject", "is odd", "mend it")) == (
        "g.yaml:6: spec.subject: is odd; mend it"
    )


def test_faults() -> None:
    """Each broken document is a fault with its line; the whole ones are still read."""
    broken = GRANT.replace("NAME", "b").replace("decision: allow", "decision: alow")
    text = "---\n".join([GRANT.replace("NAME", "a"), broken, GRANT.replace("NAME", "c"), "a: ["])
    manifest = read_manifest(text.encode(), "g.yaml")
    assert [placed.resource.name for placed in manifest.objects] == ["a", "c"]
    shown = [str(fault) for fault in manifest.faults]
    assert shown[0].startswith("g.yaml:21: spec.toolRules[0].decision: ")
    assert "`alow`" in shown[0]
    assert manifest.faults[1].problem.startswith("is not YAML")


def test_others_are_left_out() -> None:
    """Objects of other API groups are none of ours, an MCPServer of theirs neither."""
    for head in ("v1\nkind: Secret", "apps/v1\nkind: Deployment", "kagent.dev/v1\nkind: MCPServer"):
        manifest = read_manifest(f"apiVersion: {head}\nmetadata: {{name: x}}\n".encode(), "x.yaml")
        assert (manifest.objects, manifest.faults) == ((), ())


def test_mistyped_never_vanishes() -> None:
    """An object that is meant for us and mistyped is a fault; it may hold a denial."""
    for old, new in (
        ("mcpruntime.org/v1alpha1", "mcpruntime.org/v1"),
        ("mcpruntime.org/", "mcp-runtime.org/"),
        ("mcpruntime.org/", "example.com/"),
        ("kind: MCPAccessGrant", "kind: McpAccesGrant"),
        ("kind: MCPAccessGrant\n", ""),
        ("apiVersion: mcpruntime.org/v1alpha1\n", ""),
    ):
        text = GRANT.replace("NAME", "a").replace(old, new)
        manifest = read_manifest(text.encode(), "g.yaml")
        assert not manifest.objects, new
        assert len(manifest.faults) == 1, new
    assert read_manifest(b"just text", "g.yaml").faults


def test_a_fault_quotes_no_megabytes() -> None:
    """Faults go to logs and terminals, again at each look."""
    raw = b"apiVersion: mcpruntime.org/v1alpha1\nkind: " + b"MCPServer" * 200_000
    (fault,) = read_manifest(raw, "x.yaml").faults
    assert fault.problem.startswith("unknown value `MCPServer")
    assert len(str(fault)) < 2_000

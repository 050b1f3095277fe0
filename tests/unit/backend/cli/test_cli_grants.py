"""`access grant|session list|get`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from backend.cli.main import mcp_runtime, sentinel
from extauthz.core.resources import parse_object

OBJECTS = """
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: ops, namespace: mcp-servers}
spec:
  serverRef: {name: demo}
  subject: {agentID: bot, teamID: t}
  maxTrust: high
  allowedSideEffects: [read]
  expiresAt: 2030-01-01T00:00:00Z
  toolRules: [{name: read}, {name: wipe, decision: deny}, {name: x, requiredTrust: high}]
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: closed, namespace: other}
spec: {serverRef: {name: demo}, subject: {humanID: h}, disabled: true}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAgentSession
metadata: {name: s, namespace: mcp-servers}
spec: {serverRef: {name: demo}, subject: {agentID: bot}, consentedTrust: medium, revoked: true}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "objects.yaml").write_text(OBJECTS)
    return tmp_path


def run(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(sentinel, ["access", *words, "--access", str(folder)])


def rows(result: Result) -> list[list[str]]:
    return [line.split() for line in result.stdout.splitlines()]


def test_columns_are_mcp_runtimes(folder: Path) -> None:
    """The list has upstream's columns; one namespace unless told otherwise."""
    assert rows(run(folder, "grant", "list")) == [
        ["NAME", "NAMESPACE", "SERVER", "DISABLED"],
        ["ops", "mcp-servers", "demo", "false"],
    ]
    assert rows(run(folder, "grant", "list", "--all-namespaces"))[1:] == [
        ["ops", "mcp-servers", "demo", "false"],
        ["closed", "other", "demo", "true"],
    ]
    assert rows(run(folder, "session", "list")) == [
        ["NAME", "NAMESPACE", "SERVER", "REVOKED"],
        ["s", "mcp-servers", "demo", "true"],
    ]


def test_mcp_runtime_has_the_group(folder: Path) -> None:
    """Existing scripts call it by mcp-runtime's name."""
    words = ["access", "grant", "list", "--access", str(folder)]
    assert "ops" in CliRunner().invoke(mcp_runtime, words).stdout


@pytest.mark.parametrize(("kind", "name"), [("grant", "ops"), ("session", "s")])
def test_what_get_prints_can_be_applied_again(folder: Path, kind: str, name: str) -> None:
    """Nothing of the object is lost: its members make the same object again."""
    printed = json.loads(run(folder, kind, "get", name).stdout)
    metadata = {"name": printed.pop("name"), "namespace": printed.pop("namespace")}
    full_kind = {"grant": "MCPAccessGrant", "session": "MCPAgentSession"}[kind]
    again = {
        "apiVersion": "mcpruntime.org/v1alpha1",
        "kind": full_kind,
        "metadata": metadata,
        "spec": printed,
    }
    (folder / "objects.yaml").write_text(json.dumps(again))
    assert parse_object(again)
    assert json.loads(run(folder, kind, "get", name).stdout) == printed | metadata


def test_unknown_name(folder: Path) -> None:
    """A name that is not there fails in one line that says where to look."""
    result = run(folder, "grant", "get", "nobody")
    assert result.exit_code == 1
    assert "`mcp-servers/nobody`" in result.stderr
    assert "list --all-namespaces" in result.stderr


def test_what_cannot_be_read_is_told(folder: Path) -> None:
    """A broken file is a warning with its place; the rest is listed."""
    (folder / "bad.yaml").write_text("kind: [")
    result = run(folder, "grant", "list")
    assert "bad.yaml" in result.stderr
    assert "ops" in result.stdout

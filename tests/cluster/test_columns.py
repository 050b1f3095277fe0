"""What `kubectl get` shows."""

import copy
from typing import Any

import pytest

from tests.tools.kube_cluster import KubeCluster
from tests.tools.kube_objects import Served
from tests.unit.extauthz.core.objects import grant, server, session

ENFORCED = [
    {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""},
    {"type": "Enforced", "status": "False", "reason": "Waiting", "message": "1 of 2 sidecars"},
]
RULES = [{"name": "add"}]


def table(cluster: KubeCluster, *words: str) -> list[dict[str, str]]:
    """The rows that kubectl prints, by column; the age is left out, it would change."""
    done = cluster.kubectl("get", *words)
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    starts = [i for i in range(len(head)) if head[i] != " " and (not i or head[i - 1] == " ")]
    ends = [*starts[1:], None]
    rows = []
    for line in lines:
        cells = [line[a:b].strip() for a, b in zip(starts, ends, strict=True)]
        row = dict(zip(head.split(), cells, strict=True))
        assert row.pop("AGE")
        rows.append(row)
    return rows


def test_grants(cluster: KubeCluster, served: Served, namespace: str) -> None:
    """Who is granted what, how far, for how long, and whether every sidecar enforces it."""
    subject = {"humanID": "jane", "agentID": "agent-7", "teamID": "blue"}
    until = "2027-01-01T00:00:00Z"
    made = grant(subject=subject, maxTrust="high", toolRules=RULES, expiresAt=until)
    served.set_status(served.create(made, namespace), conditions=ENFORCED)
    (row,) = table(cluster, "mcpaccessgrants", "--namespace", namespace)
    assert row == {
        "NAME": "g",
        "SERVER": "srv",
        "HUMAN": "jane",
        "AGENT": "agent-7",
        "TEAM": "blue",
        "TRUST": "high",
        "DISABLED": "false",
        "EXPIRES": until,
        "ENFORCED": "False",
    }


def test_sessions(cluster: KubeCluster, served: Served, namespace: str) -> None:
    """Whose session, how far trusted, whether revoked; what is not known yet stays empty."""
    served.create(session(revoked=True), namespace)
    (row,) = table(cluster, "mcpsess", "--namespace", namespace, "--output", "wide")
    assert row == {
        "NAME": "s",
        "SERVER": "srv",
        "HUMAN": "",
        "AGENT": "a",
        "TEAM": "",
        "TRUST": "low",
        "REVOKED": "true",
        "EXPIRES": "",
        "ACCEPTED": "",
        "ENFORCED": "",
    }


def test_servers(cluster: KubeCluster, served: Served, namespace: str) -> None:
    """On how many of how many sidecars which revision runs, beside what mcp-runtime tells."""
    status: dict[str, Any] = {"phase": "Ready", "policyReady": True, "gatewayReady": True}
    status |= {"deploymentReady": False}
    status["policy"] = {"revision": "sha256:0a1b2c3d", "shortRevision": "0a1b", "sidecars": "1/2"}
    made = served.create(server(teamID="blue", policy={"mode": "observe"}), namespace)
    served.set_status(made, conditions=ENFORCED, **status)
    shown = {
        "NAME": "srv",
        "PHASE": "Ready",
        "POLICY": "true",
        "GATEWAY": "true",
        "READY": "false",
        "SIDECARS": "1/2",
        "REVISION": "0a1b",
    }
    assert table(cluster, "mcps", "--namespace", namespace) == [shown]
    (wide,) = table(cluster, "mcps", "--namespace", namespace, "--output", "wide")
    assert wide == shown | {"TEAM": "blue", "MODE": "observe", "ACCEPTED": "True"}


def test_all_kinds_at_once(cluster: KubeCluster, served: Served, namespace: str) -> None:
    """The category `mcp` holds all three."""
    for made in (server(), grant(), session()):
        served.create(made, namespace)
    done = cluster.kubectl("get", "mcp", "--namespace", namespace, "--output", "name")
    assert set(done.stdout.split()) == {
        "mcpserver.mcpruntime.org/srv",
        "mcpaccessgrant.mcpruntime.org/g",
        "mcpagentsession.mcpruntime.org/s",
    }


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("spec.serverRef.name=srv", {"one", "two"}),
        ("spec.subject.agentID=b", {"two", "three"}),
        ("spec.serverRef.name=srv,spec.disabled=false", {"one"}),
        ("spec.serverRef.namespace=elsewhere", {"three"}),
    ],
)
def test_what_can_be_selected(
    cluster: KubeCluster, served: Served, namespace: str, selector: str, names: set[str]
) -> None:
    """The API server itself finds the grants of a server or a subject."""
    b = {"agentID": "b"}
    served.create(grant("one"), namespace)
    served.create(grant("two", subject=b, disabled=True), namespace)
    elsewhere = {"name": "other", "namespace": "elsewhere"}
    served.create(grant("three", subject=b, serverRef=elsewhere), namespace)
    rows = table(cluster, "mcpg", "--namespace", namespace, "--field-selector", selector)
    assert {row["NAME"] for row in rows} == names


def test_status_is_written_apart(served: Served, namespace: str) -> None:
    """A status in a spec's write is left out, and a spec in a status's write."""
    stored = served.create(grant() | {"status": {"phase": "Forged"}}, namespace)
    assert "status" not in stored
    forged = copy.deepcopy(stored)
    forged["spec"]["disabled"] = True
    written = served.set_status(forged, conditions=ENFORCED)
    assert written["spec"]["disabled"] is False
    assert written["status"]["conditions"] == ENFORCED
    assert written["metadata"]["generation"] == stored["metadata"]["generation"]


@pytest.mark.parametrize("path", ["mcpserver.spec.auth.mode", "mcpgrant.spec", "mcpsess.spec"])
def test_explain(cluster: KubeCluster, path: str) -> None:
    """`kubectl explain` tells what a field is for."""
    told = cluster.kubectl("explain", path).stdout
    assert "DESCRIPTION:" in told
    assert "<empty>" not in told

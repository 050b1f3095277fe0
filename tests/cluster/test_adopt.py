"""`sentinel adopt`: a cluster whose policies mcp-runtime's operator wrote."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from extauthz.core.revision import compatible_revision
from tests.tools.controller_process import ControllerProcess, running_controller
from tests.tools.kube_cluster import ROOT, KubeCluster
from tests.tools.kube_objects import Served
from tests.tools.waiting import eventually
from tests.unit.backend.cli.conftest import run
from tests.unit.extauthz.core.objects import grant, server

WRITTEN = Path(__file__).parent / "mcp-runtime.yaml"
TEAM = "7c0e0f6e-team"
MANAGED_BY = "app.kubernetes.io/managed-by"


def operators(namespace: str, **grants: str) -> dict[str, Any]:
    """The document that mcp-runtime's operator makes of `WRITTEN`: in its order, with its defaults.

    Args:
        grants: max trust of further grants, by name.
    """
    who = {"human_id": "user-123", "agent_id": "ops-agent", "team_id": TEAM}
    rules = [
        {"name": "add", "decision": "allow", "required_trust": "low"},
        {"name": "wipe", "decision": "deny", "required_trust": "low"},
    ]
    headers = {f"{each}_id_header": f"X-MCP-{each.title()}-ID" for each in ("human", "agent")}
    headers |= {"team_id_header": "X-MCP-Team-ID", "session_id_header": "X-MCP-Agent-Session"}
    document: dict[str, Any] = {
        "schema_version": "v1",
        "generated_at": "2026-07-01T00:00:00Z",
        "server": {"name": "demo", "namespace": namespace, "team_id": TEAM},
        "auth": {"mode": "header", **headers, "token_header": "Authorization"},
        "policy": {
            "mode": "allow-list",
            "default_decision": "deny",
            "enforce_on": "call_tool",
            "policy_version": "v1",
        },
        "session": {
            "required": True,
            "store": "kubernetes",
            "header_name": "X-MCP-Agent-Session",
            "max_lifetime": "24h",
            "idle_timeout": "1h",
        },
        "tools": [
            {"name": "add", "description": "Adds.", "required_trust": "low", "side_effect": "read"},
            {"name": "wipe", "required_trust": "high", "side_effect": "destructive"},
        ],
        "grants": [
            {
                "name": "demo-grant",
                **who,
                "max_trust": "high",
                "allowed_side_effects": ["read", "write"],
                "policy_version": "v1",
                "tool_rules": rules,
            },
            {"name": "team-grant", "team_id": TEAM, "max_trust": "low"},
            *({"name": name, "agent_id": "a", "max_trust": each} for name, each in grants.items()),
        ],
        "sessions": [
            {
                "name": "demo-session",
                **who,
                "consented_trust": "medium",
                "expires_at": "2027-01-01T00:00:00Z",
                "policy_version": "v1",
            }
        ],
    }
    return document | {"revision": compatible_revision(document)}


class Runtime:
    """A namespace where mcp-runtime's operator has been."""

    def __init__(self, cluster: KubeCluster, served: Served, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.server = f"{namespace}/demo"
        for written in yaml.safe_load_all(WRITTEN.read_text()):
            if "demo" not in json.dumps(written):
                continue
            if ref := written["spec"].get("serverRef"):
                ref["namespace"] = namespace
            written["spec"].pop("upstreamTokenSecretRef", None)
            served.create(written, namespace)
        self._uid = self.told("mcps", "demo")["metadata"]["uid"]

    def told(self, kind: str, name: str) -> Any:
        words = ("get", kind, name, "--namespace", self.namespace, "--output", "json")
        return json.loads(self.cluster.kubectl(*words).stdout)

    def writes(self, document: Any) -> None:
        """As the operator does, whatever stood there."""
        owner = {"apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPServer", "name": "demo"}
        owner |= {"uid": self._uid, "controller": True, "blockOwnerDeletion": True}
        meta = {
            "name": "demo-gateway-policy",
            "namespace": self.namespace,
            "labels": {"app": "demo", MANAGED_BY: "mcp-runtime"},
            "ownerReferences": [owner],
        }
        data = {"policy.json": json.dumps(document, indent=2)}
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
        done = self.cluster.kubectl("apply", "--filename", "-", text=json.dumps(made))
        assert done.returncode == 0, done.stderr

    def stands(self) -> Any:
        """The ConfigMap."""
        return self.told("configmap", "demo-gateway-policy")

    def document(self) -> Any:
        return json.loads(self.stands()["data"]["policy.json"])

    def is_taken_over(self) -> bool:
        """The controller writes the policy, and says that nothing is in the way."""
        return "content_digest" in self.document() and not self.is_in_conflict()

    def is_in_conflict(self) -> bool:
        conditions = self.told("mcps", "demo").get("status", {}).get("conditions", [])
        return "ConfigMapConflict" in {each["type"] for each in conditions}

    def adopt(self, *words: str, code: int = 0) -> str:
        """What the command says of this server."""
        done = run("adopt", self.server, *words, "--kubeconfig", str(self.cluster.kubeconfig))
        assert done.exit_code == code, done.output
        return str(done.stdout)


@pytest.fixture
def runtime(cluster: KubeCluster, served: Served, namespace: str) -> Runtime:
    return Runtime(cluster, served, namespace)


@pytest.fixture
def controller(
    runtime: Runtime, cluster: KubeCluster, namespace: str, tmp_path: Path
) -> Iterator[ControllerProcess]:
    """One that found a policy of mcp-runtime's."""
    runtime.writes(operators(namespace))
    with running_controller(cluster.kubeconfig, namespace, "adopting", tmp_path) as process:
        eventually(runtime.is_in_conflict, "it says that the ConfigMap is another's")
        yield process


def test_a_policy_is_taken_over(runtime: Runtime, controller: ControllerProcess) -> None:
    """Not by a dry run, once, and the controller writes it at once; nothing is lost of it."""
    before = runtime.stands()
    assert f"{runtime.server}: would be adopted\n" in runtime.adopt("--dry-run")
    assert runtime.stands() == before
    assert runtime.adopt() == f"{runtime.server}: adopted\n"
    eventually(runtime.is_taken_over, "the controller writes it")
    adopted = runtime.stands()
    (owner,) = adopted["metadata"]["ownerReferences"]
    assert owner["uid"] == runtime.told("mcps", "demo")["metadata"]["uid"]
    assert adopted["metadata"]["labels"] == {"app": "demo", MANAGED_BY: "mcp-sentinel"}
    assert runtime.adopt() == f"{runtime.server}: Sentinel's own\n"
    assert runtime.stands() == adopted


def test_it_is_given_back(runtime: Runtime, controller: ControllerProcess, served: Served) -> None:
    """To whom it was taken from; then the controller leaves it alone, as before."""
    runtime.adopt()
    eventually(runtime.is_taken_over, "the controller writes it")
    assert runtime.adopt("--release", "--dry-run").endswith("would be given back: to mcp-runtime\n")
    assert runtime.adopt("--release") == f"{runtime.server}: given back: to mcp-runtime\n"
    labels = runtime.stands()["metadata"]["labels"]
    assert labels == {"app": "demo", MANAGED_BY: "mcp-runtime"}
    left = runtime.stands()
    served.create(grant("more", serverRef={"name": "demo"}), runtime.namespace)
    eventually(runtime.is_in_conflict, "it says that the ConfigMap is another's")
    assert runtime.stands() == left
    assert "not Sentinel's" in runtime.adopt("--release")
    assert not runtime.told("mcps", "demo")["metadata"].get("annotations")


def test_an_operator_that_still_runs_has_it_back(
    runtime: Runtime, controller: ControllerProcess, served: Served
) -> None:
    """Two never write by turns: the controller steps back until it is adopted anew."""
    runtime.adopt()
    eventually(runtime.is_taken_over, "the controller writes it")
    runtime.writes(operators(runtime.namespace))
    served.create(grant("more", serverRef={"name": "demo"}), runtime.namespace)
    eventually(runtime.is_in_conflict, "it says that the ConfigMap is another's")
    assert runtime.document() == operators(runtime.namespace)
    assert "differs: grant" in runtime.adopt("--accept-differences")
    eventually(runtime.is_taken_over, "the controller writes it again")


def test_what_would_change_is_told(
    cluster: KubeCluster, runtime: Runtime, served: Served, namespace: str
) -> None:
    """By grant; then it stays as it is, unless that is accepted."""
    theirs = operators(namespace, elsewhere="high")
    theirs["grants"][0]["max_trust"] = "medium"
    runtime.writes(theirs | {"revision": compatible_revision(theirs)})
    other = f"{namespace}-2"
    cluster.kubectl("create", "namespace", other)
    made = grant("elsewhere", serverRef={"name": "demo", "namespace": namespace})
    served.create(made, other)
    told = runtime.adopt("--dry-run", code=1).splitlines()
    assert told[0].startswith(f"{runtime.server}: left alone, for it would change")
    assert told[1:3] == [
        f"  differs: grant {namespace}/demo-grant: max trust: `medium` there, `high` in ours",
        f"  differs: grant {namespace}/elsewhere: stands there, and is not in ours",
    ]
    assert told[3].startswith(f"  look at: MCPAccessGrant {other}/elsewhere: spec.serverRef: ")
    assert runtime.adopt(code=1).splitlines() == told
    assert runtime.document() == theirs | {"revision": compatible_revision(theirs)}
    said = json.loads(runtime.adopt("--accept-differences", "--json"))
    assert said[0]["state"] == "adopted"
    assert {each["part"] for each in said[0]["differences"]} == {
        f"grant {namespace}/demo-grant",
        f"grant {namespace}/elsewhere",
    }
    assert runtime.stands()["metadata"]["labels"][MANAGED_BY] == "mcp-sentinel"


def test_every_server_or_those_named(runtime: Runtime, served: Served, namespace: str) -> None:
    """What cannot be adopted is named with its reason; what has no ConfigMap is none of ours."""
    served.create(server("bad", auth={"mode": "mtls"}), namespace)
    kubeconfig = ("--kubeconfig", str(runtime.cluster.kubeconfig))
    told = run("adopt", "--dry-run", *kubeconfig)
    assert f"{runtime.server}: no ConfigMap of a policy" in told.stdout
    assert f"MCPServer {namespace}/bad does not count: spec.auth.mode: `mtls`" in told.stderr
    for name, why in (("bad", "cannot be read: spec.auth.mode"), ("none", "kubectl get mcps")):
        refused = run("adopt", f"{namespace}/{name}", *kubeconfig)
        assert refused.exit_code == 1
        assert why in refused.stderr


def test_the_definitions_may_be_others(runtime: Runtime) -> None:
    """They are told of; applied over, ours keep the objects."""
    before = runtime.told("mcpg", "demo-grant")
    definition = ("crd", "mcpaccessgrants.mcpruntime.org")
    kubeconfig = ("--kubeconfig", str(runtime.cluster.kubeconfig))
    assert "definition" not in run("adopt", runtime.server, *kubeconfig).stderr
    runtime.cluster.kubectl("label", *definition, "app.kubernetes.io/part-of-")
    try:
        told = run("adopt", runtime.server, *kubeconfig)
        assert f"definition {definition[1]} is not Sentinel's" in told.stderr
        assert told.exit_code == 0
    finally:
        runtime.cluster.apply(ROOT / "k8s/crds")
    assert "definition" not in run("adopt", runtime.server, *kubeconfig).stderr
    assert runtime.told("mcpg", "demo-grant") == before


def test_rights_are_asked_by_a_dry_run(
    cluster: KubeCluster, runtime: Runtime, namespace: str
) -> None:
    """Who may look and not write learns so before anything is done."""
    runtime.writes(operators(namespace))
    kubeconfig = cluster.account(namespace, "reader")
    who = f"--serviceaccount={namespace}:reader"
    made = ("--verb=get,list", "--resource=mcps,mcpg,mcpsess,configmaps")
    cluster.kubectl("create", "clusterrole", namespace, *made)
    cluster.kubectl("create", "clusterrolebinding", namespace, f"--clusterrole={namespace}", who)
    refused = run("adopt", runtime.server, "--dry-run", "--kubeconfig", str(kubeconfig))
    assert refused.exit_code == 1
    assert 'cannot patch resource "configmaps"' in refused.stderr
    assert "whose the definitions of the custom resources are is not known" in refused.stderr

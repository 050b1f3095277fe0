"""What the api's account needs: no more than docs/kubernetes.md lists, and no less."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from kubernetes import config

from backend.adapters.kubernetes_client import CustomObjects
from backend.adapters.kubernetes_store import KubernetesStore
from extauthz.core.errors import Retryable
from extauthz.core.model import MCPAccessGrant
from tests.tools.kube_binaries import ROOT
from tests.tools.kube_cluster import KubeCluster
from tests.tools.kube_objects import GROUP, Served
from tests.unit.extauthz.core.objects import grant, server

GROUP_RBAC = "rbac.authorization.k8s.io"
ROW = re.compile(r"^\| ([a-z, ]+) \| ((?:`mcp\w+`(?:, )?)+) \| to ", re.MULTILINE)


def told_rules(leave_out: str = "") -> list[dict[str, Any]]:
    """Of the document, perhaps without one verb."""
    rows = ROW.findall((ROOT / "docs/kubernetes.md").read_text())
    assert len(rows) == 2
    return [
        {
            "apiGroups": [GROUP],
            "resources": re.findall(r"\w+", resources),
            "verbs": [verb for verb in verbs.split(", ") if verb != leave_out],
        }
        for verbs, resources in rows
    ]


def opened(cluster: KubeCluster, namespace: str, leave_out: str = "") -> KubernetesStore:
    """A store by an account with just that role."""
    name = f"{namespace}-role"
    kind = {"apiVersion": f"{GROUP_RBAC}/v1", "metadata": {"name": name}}
    subject = {"kind": "ServiceAccount", "name": "api", "namespace": namespace}
    kubeconfig = cluster.account(namespace, "api")
    made = (
        kind | {"kind": "ClusterRole", "rules": told_rules(leave_out)},
        kind
        | {
            "kind": "ClusterRoleBinding",
            "subjects": [subject],
            "roleRef": {"apiGroup": GROUP_RBAC, "kind": "ClusterRole", "name": name},
        },
    )
    for each in made:
        done = cluster.kubectl("create", "--filename", "-", text=json.dumps(each))
        assert done.returncode == 0, done.stderr
    api = config.new_client_from_config(config_file=str(kubeconfig))
    return KubernetesStore(CustomObjects(api))


def use(store: KubernetesStore, namespace: str) -> None:
    """All that the api does with it."""
    store.ping()
    (found,) = store.grants(namespace)
    store.get(MCPAccessGrant, namespace, found.name)
    new = replace(found, name="new")
    for change in (lambda _: new, lambda _: replace(new, disabled=True), lambda _: None):
        store.edit(MCPAccessGrant, namespace, "new", change, before_write=lambda *_: None)
    store.sessions(namespace)
    store.servers()


def test_what_is_listed_suffices(cluster: KubeCluster, served: Served, namespace: str) -> None:
    """An account with just these verbs does all that the api does."""
    served.create(server(), namespace)
    served.create(grant(), namespace)
    use(opened(cluster, namespace), namespace)


@pytest.mark.parametrize("verb", ["get", "list", "create", "patch", "delete"])
def test_each_verb_is_needed(
    cluster: KubeCluster, served: Served, namespace: str, verb: str
) -> None:
    """Without one of them something is refused, and said so."""
    served.create(grant(), namespace)
    with pytest.raises(Retryable, match=f"cannot {verb} resource .*; grant it the role"):
        use(opened(cluster, namespace, verb), namespace)


def test_no_more_is_allowed(cluster: KubeCluster, namespace: str) -> None:
    """Such an account reads no secret, and writes no server and no status."""
    opened(cluster, namespace)
    as_account = f"--as=system:serviceaccount:{namespace}:api"
    for words in (
        ("get", "secrets"),
        ("patch", "mcpservers.mcpruntime.org"),
        ("patch", "mcpaccessgrants.mcpruntime.org", "--subresource=status"),
        ("delete", "mcpservers.mcpruntime.org"),
    ):
        assert cluster.kubectl("auth", "can-i", *words, as_account).stdout == "no\n", words

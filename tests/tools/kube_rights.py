"""Who may do what in a cluster: the manifests' accounts, and copies of them that lack a verb."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes import client, config

from tests.tools.kube_binaries import ROOT
from tests.tools.kube_cluster import KubeCluster

NAMESPACE: Final = ROOT / "k8s/base/00-namespace.yaml"
ACCOUNTS: Final = ROOT / "k8s/base/accounts.yaml"
RBAC: Final = "rbac.authorization.k8s.io"
Right = tuple[str, str, str, str]  # API group, resource or URL, name of an object, verb


def install(cluster: KubeCluster) -> None:
    """Apply the manifests as they are."""
    for file in (NAMESPACE, ACCOUNTS):
        done = cluster.kubectl("apply", "--filename", str(file))
        assert done.returncode == 0, done.stderr


def rights(kubeconfig: Path, namespace: str) -> set[Right]:
    """All that an account may do in a namespace, as the API server says."""
    api = client.AuthorizationV1Api(config.new_client_from_config(config_file=str(kubeconfig)))
    asked = client.V1SelfSubjectRulesReview(
        spec=client.V1SelfSubjectRulesReviewSpec(namespace=namespace)
    )
    status = api.create_self_subject_rules_review(asked).status
    assert status is not None
    found: set[Right] = set()
    for rule in status.resource_rules:
        for group in rule.api_groups or ():
            for resource in rule.resources or ():
                for name in rule.resource_names or [""]:
                    found |= {(group, resource, name, verb) for verb in rule.verbs}
    for url in status.non_resource_rules:
        for path in url.non_resource_urls or ():
            found |= {("", path, "", verb) for verb in url.verbs}
    return found


def roles(component: str) -> list[dict[str, Any]]:
    """The ClusterRole and the Role of a component, as the manifest has them."""
    documents = yaml.safe_load_all(ACCOUNTS.read_text())
    name = f"mcp-sentinel-{component}"
    return [
        each
        for each in documents
        if each["kind"] in {"ClusterRole", "Role"} and each["metadata"]["name"] == name
    ]


def verbs(component: str) -> Iterator[tuple[str, str]]:
    """Every resource and verb of a component."""
    for role in roles(component):
        for rule in role["rules"]:
            for verb in rule["verbs"]:
                yield (rule.get("resources") or rule["nonResourceURLs"])[0], verb


def account_lacking(
    cluster: KubeCluster, namespace: str, component: str, resource: str, verb: str
) -> Path:
    """The kubeconfig of an account with all of a component's rights but one.

    Args:
        namespace: of this test alone; the account is there, and what a Role lets it do.
    """
    kubeconfig = cluster.account(namespace, component)
    subject = {"kind": "ServiceAccount", "name": component, "namespace": namespace}
    for role in roles(component):
        made = copy.deepcopy(role)
        made["metadata"] = {"name": f"{namespace}-{component}"}
        for rule in made["rules"]:
            if resource in (rule.get("resources") or ()):
                rule["verbs"] = [each for each in rule["verbs"] if each != verb]
        made["rules"] = [rule for rule in made["rules"] if rule["verbs"]]
        if role["kind"] == "Role":
            made["metadata"]["namespace"] = namespace
        binding = {
            "apiVersion": f"{RBAC}/v1",
            "kind": f"{role['kind']}Binding",
            "metadata": made["metadata"],
            "subjects": [subject],
            "roleRef": {"apiGroup": RBAC, "kind": role["kind"], "name": made["metadata"]["name"]},
        }
        for each in (made, binding):
            done = cluster.kubectl("create", "--filename", "-", text=json.dumps(each))
            assert done.returncode == 0, done.stderr
    return kubeconfig

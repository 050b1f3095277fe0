"""What the components' accounts may do: no more than the manifest says, and no less than needed."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from kubernetes import config

from backend.adapters.kubernetes_accounts import KubernetesAccounts
from backend.adapters.kubernetes_client import CustomObjects
from backend.adapters.kubernetes_store import KubernetesStore
from extauthz.core.errors import Retryable
from extauthz.core.model import MCPAccessGrant
from tests.tools.kube_cluster import KubeCluster
from tests.tools.kube_objects import GROUP, Served
from tests.tools.kube_rights import ACCOUNTS, Right, account_lacking, install, rights, verbs
from tests.unit.extauthz.core.objects import grant, server

ALL = ("mcpservers", "mcpaccessgrants", "mcpagentsessions")
BINDINGS = ALL[1:]
HOME, LEADER = "mcp-sentinel", "mcp-sentinel-controller"


def of(group: str, resources: tuple[str, ...], *allowed: str, name: str = "") -> set[Right]:
    return {(group, resource, name, verb) for resource in resources for verb in allowed}


# What each may do beyond what every account may, in its own namespace and in all others.
EVERYWHERE: dict[str, set[Right]] = {
    "api": of(GROUP, ALL, "get", "list") | of(GROUP, BINDINGS, "create", "patch", "delete"),
    "controller": (
        of(GROUP, ALL, "list", "watch")
        | of(GROUP, tuple(f"{each}/status" for each in ALL), "patch")
        | of("", ("configmaps",), "get", "create", "patch", "delete")
        | of("authentication.k8s.io", ("tokenreviews",), "create")
        | of("", ("pods",), "get")
        | of("", ("services",), "list", "watch")
        | of("networking.k8s.io", ("networkpolicies",), "list", "watch")
        | of("events.k8s.io", ("events",), "create")
    ),
    "ingest": of(GROUP, ("mcpservers",), "list"),
    "processor": set(),
}
AT_HOME: dict[str, set[Right]] = {
    "controller": (
        of("coordination.k8s.io", ("leases",), "create")
        | of("coordination.k8s.io", ("leases",), "get", "update", "watch", name=LEADER)
        | of("", ("secrets",), "create")
        | of("", ("secrets",), "get", "update", name=f"{LEADER}-tls")
    ),
}


@pytest.fixture(scope="module")
def installed(cluster: KubeCluster) -> None:
    install(cluster)


@pytest.fixture(scope="module")
def anybody(cluster: KubeCluster, installed: None) -> Path:
    """An account that nobody gave anything."""
    return cluster.account("mcp-servers", "anybody")


def opened(kubeconfig: Path) -> KubernetesStore:
    return KubernetesStore(
        CustomObjects(config.new_client_from_config(config_file=str(kubeconfig)))
    )


@pytest.mark.parametrize("component", EVERYWHERE)
def test_accounts_may_do_just_this(cluster: KubeCluster, anybody: Path, component: str) -> None:
    """All that the API server lets each do, beyond what every account may."""
    kubeconfig = cluster.kubeconfig_of(HOME, f"mcp-sentinel-{component}")
    for namespace, expected in (
        ("mcp-servers", EVERYWHERE[component]),
        (HOME, EVERYWHERE[component] | AT_HOME.get(component, set())),
    ):
        assert rights(kubeconfig, namespace) - rights(anybody, namespace) == expected


def test_a_sidecar_may_do_nothing(cluster: KubeCluster, anybody: Path) -> None:
    """Its account is as anybody's, and its tokens are not for the API server."""
    kubeconfig = cluster.kubeconfig_of("mcp-servers", "mcp-server")
    assert rights(kubeconfig, "mcp-servers") == rights(anybody, "mcp-servers")
    for audience in ("mcp-sentinel-ingest", "mcp-sentinel-controller"):
        projected = cluster.kubeconfig_of("mcp-servers", "mcp-server", [audience])
        done = cluster.kubectl("get", "mcpg", kubeconfig=projected)
        assert done.returncode != 0
        assert "Unauthorized" in done.stderr or "logged in" in done.stderr


@pytest.mark.parametrize(
    ("component", "verb", "words", "resource"),
    [
        ("api", "delete", ("delete", "mcps", "shop"), "mcpservers"),
        ("api", "get", ("get", "secret", "shop"), "secrets"),
        ("controller", "get", ("get", "secret", "shop"), "secrets"),
        ("controller", "delete", ("delete", "mcpg", "ops"), "mcpaccessgrants"),
        ("ingest", "list", ("get", "mcpg"), "mcpaccessgrants"),
        ("processor", "list", ("get", "mcps"), "mcpservers"),
    ],
)
def test_what_is_not_theirs_is_refused(
    cluster: KubeCluster,
    installed: None,
    component: str,
    verb: str,
    words: tuple[str, ...],
    resource: str,
) -> None:
    """By the API server, whatever the component tries."""
    kubeconfig = cluster.kubeconfig_of(HOME, f"mcp-sentinel-{component}")
    done = cluster.kubectl(*words, "--namespace", "mcp-servers", kubeconfig=kubeconfig)
    assert done.returncode != 0
    user = f"system:serviceaccount:{HOME}:mcp-sentinel-{component}"
    assert f'User "{user}" cannot {verb} resource "{resource}"' in done.stderr


def use_as_api(store: KubernetesStore, namespace: str) -> None:
    """All that the api does with it."""
    store.ping()
    (found,) = store.grants(namespace)
    store.get(MCPAccessGrant, namespace, found.name)
    new = replace(found, name="new")
    for change in (lambda _: new, lambda _: replace(new, disabled=True), lambda _: None):
        store.edit(MCPAccessGrant, namespace, "new", change, before_write=lambda *_: None)
    store.sessions(namespace)
    store.servers()


def test_the_api_works(
    cluster: KubeCluster, served: Served, namespace: str, installed: None
) -> None:
    """By its own account, in any namespace."""
    served.create(server(), namespace)
    served.create(grant(), namespace)
    use_as_api(opened(cluster.kubeconfig_of(HOME, "mcp-sentinel-api")), namespace)


@pytest.mark.parametrize("verb", ["get", "list", "create", "patch", "delete"])
def test_the_api_needs_each_verb(
    cluster: KubeCluster, served: Served, namespace: str, verb: str
) -> None:
    """Without one of them something is refused, and said so."""
    served.create(grant(), namespace)
    lacking = account_lacking(cluster, namespace, "api", "mcpaccessgrants", verb)
    with pytest.raises(Retryable, match=f'cannot {verb} resource "mcp.*; grant it the role'):
        use_as_api(opened(lacking), namespace)


def use_as_ingest(kubeconfig: Path) -> None:
    accounts = KubernetesAccounts(config.new_client_from_config(config_file=str(kubeconfig)))
    assert accounts.issuer()
    assert accounts.keys()
    accounts.claims()


def test_ingest_works(cluster: KubeCluster, namespace: str, installed: None) -> None:
    """By its own account; without its one verb on servers it cannot know whose they are."""
    use_as_ingest(cluster.kubeconfig_of(HOME, "mcp-sentinel-ingest"))
    lacking = account_lacking(cluster, namespace, "ingest", "mcpservers", "list")
    with pytest.raises(Retryable, match='cannot list resource "mcpservers"'):
        use_as_ingest(lacking)


def test_a_governor_is_bound_to_a_namespace(
    cluster: KubeCluster, namespace: str, anybody: Path
) -> None:
    """The role for people, bound in one namespace: there alone, and no server is changed."""
    words = ("--clusterrole=mcp-governor", f"--serviceaccount={namespace}:person")
    cluster.kubectl("create", "rolebinding", "person", *words, "--namespace", namespace)
    kubeconfig = cluster.account(namespace, "person")
    governing = ("get", "list", "watch", "create", "patch", "update", "delete")
    expected = of(GROUP, ("mcpservers",), "get", "list", "watch") | of(GROUP, BINDINGS, *governing)
    assert rights(kubeconfig, namespace) - rights(anybody, namespace) == expected
    assert rights(kubeconfig, "mcp-servers") == rights(anybody, "mcp-servers")


def test_every_verb_has_its_reason() -> None:
    """A comment beside each; no verb, group or resource is a wildcard."""
    text = ACCOUNTS.read_text()
    told = re.findall(r"^  - (\w+) +# \S.+$", text, re.MULTILINE)
    documents = [each for each in yaml.safe_load_all(text) if "rules" in each]
    listed = [verb for each in documents for rule in each["rules"] for verb in rule["verbs"]]
    assert told == listed
    assert "*" not in text
    assert set(verbs("processor")) == set()

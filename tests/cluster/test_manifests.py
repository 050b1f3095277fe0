"""The manifests at a real API server: taken strictly, twice the same, and pods made of them."""

import json
import subprocess
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from k8s.new_keys import new_keys, patch
from tests.tools.kube_cluster import KubeCluster, running_cluster
from tests.tools.kube_manifests import (
    EXAMPLE,
    K8S,
    OVERLAYS,
    VARIANTS,
    Workload,
    rendered,
    variant_of,
    workloads,
)
from tests.tools.waiting import eventually

STRICT = ("--validate=strict",)
ALL = ("", *OVERLAYS, EXAMPLE)
WRITTEN_BY_OTHERS = {"PersistentVolumeClaim", "Namespace", "Service"}  # a status, no generation


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeCluster]:
    """A cluster where nothing was installed, with what makes pods of workloads."""
    with running_cluster(tmp_path_factory.mktemp("manifests") / "cluster") as cluster:
        cluster.start_controllers()
        yield cluster


def applied(cluster: KubeCluster, *words: str, text: str = "") -> list[str]:
    """Lines that `kubectl apply` prints; it succeeds, and warns of nothing."""
    done = cluster.kubectl("apply", *STRICT, *words, text=text)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def installed(newcomer: KubeCluster) -> KubeCluster:
    """As docs/kubernetes.md has it: in one go, the custom resources with it."""
    lines = applied(newcomer, "--kustomize", str(K8S))
    assert all(line.endswith(" created") for line in lines)
    waited = newcomer.kubectl(
        "wait", "--for=condition=Established", "--timeout=90s", "crd", "--all"
    )
    assert waited.returncode == 0, waited.stderr
    eventually(
        lambda: newcomer.kubectl("get", "mcp", "--all-namespaces").returncode == 0,
        "the custom resources are found",
    )
    applied(newcomer, "--kustomize", str(K8S / EXAMPLE))
    return newcomer


@pytest.mark.parametrize("folder", ALL)
def test_the_api_server_takes_each(installed: KubeCluster, folder: str) -> None:
    """Every field is known, every value allowed, and nothing deprecated or unsafe is told of."""
    fresh = yaml.safe_dump_all(
        each | {"metadata": each["metadata"] | {"name": f"x-{each['metadata']['name']}"}}
        for each in rendered(folder)
        if each["kind"] not in {"CustomResourceDefinition", "Namespace"}
    )
    lines = applied(installed, "--dry-run=server", "--filename", "-", text=fresh)
    assert all(line.endswith(" created (server dry run)") for line in lines)


@pytest.mark.parametrize("folder", ["", EXAMPLE])
def test_applying_again_changes_nothing(installed: KubeCluster, folder: str) -> None:
    """No object is written anew: what the API server fills in is no difference."""
    before = versions(installed, folder)
    applied(installed, "--kustomize", str(K8S / folder))
    assert versions(installed, folder) == before


def versions(cluster: KubeCluster, folder: str) -> dict[str, str]:
    """What grows with each change of an object, of its status aside where it has one."""
    listed = cluster.kubectl("get", "--kustomize", str(K8S / folder), "--output=json")
    assert listed.returncode == 0, listed.stderr
    return {
        f"{each['kind']} {meta['name']}": str(meta.get("generation", meta["resourceVersion"]))
        for each in json.loads(listed.stdout)["items"]
        if (meta := each["metadata"]) and each["kind"] not in WRITTEN_BY_OTHERS
    }


def test_keys_are_made_once_and_kept(installed: KubeCluster) -> None:
    """The Secret comes empty; what fills it is never written over, by whatever is applied again."""
    name = ("secret", "mcp-sentinel-secrets", "--namespace=mcp-sentinel")
    assert installed.kubectl("get", *name, "--output=jsonpath={.data}").stdout == ""
    keys = new_keys()
    assert filled(installed, *name, keys=keys).returncode == 0
    again = filled(installed, *name, keys=new_keys())
    assert again.returncode != 0
    assert "The request is invalid" in again.stderr
    manifest = str(K8S / "base/02-secrets.yaml")
    for words in ((), ("--server-side", "--force-conflicts", "--field-manager=mcp-sentinel")):
        done = installed.kubectl("apply", *words, "--filename", manifest)
        assert done.returncode == 0, done.stderr
        kept = json.loads(installed.kubectl("get", *name, "--output=json").stdout)["data"]
        assert {key: b64decode(value).decode() for key, value in kept.items()} == keys


def filled(
    cluster: KubeCluster, *name: str, keys: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return cluster.kubectl("patch", *name, "--type=json", "--patch", patch(keys))


def made(cluster: KubeCluster) -> Counter[str]:
    """Pods by their label `app`."""
    path = r"{range .items[*]}{.metadata.labels.app}{'\n'}{end}"
    found = cluster.kubectl("get", "pods", "--all-namespaces", f"--output=jsonpath={path}")
    assert found.returncode == 0, found.stderr
    return Counter(found.stdout.split())


def expected(*folders: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for folder in folders:
        for each in workloads(rendered(folder)):
            found[each.labels["app"]] += each.replicas
    return found


def test_every_pod_is_admitted(installed: KubeCluster) -> None:
    """By Pod Security `restricted`, which namespace mcp-sentinel enforces: all are made."""
    wanted = expected("", EXAMPLE)
    assert len(wanted) == 10
    eventually(lambda: made(installed) == wanted, f"these pods, and no others: {wanted}")


def test_production_is_made(tmp_path: Path) -> None:
    """All of it for real, by server-side apply."""
    _, production = OVERLAYS
    with running_cluster(tmp_path / "cluster") as cluster:
        cluster.start_controllers()
        applied(cluster, "--server-side", "--filename", str(K8S / "crds"))
        lines = applied(cluster, "--server-side", "--kustomize", str(K8S / production))
        assert all(line.endswith(" serverside-applied") for line in lines)
        wanted = expected(production)
        assert wanted["kafka"] == wanted["clickhouse-keeper"] == 3
        eventually(lambda: made(cluster) == wanted, f"these pods, and no others: {wanted}")


@pytest.mark.parametrize("folder", [*OVERLAYS, EXAMPLE])
def test_pods_keep_to_restricted(installed: KubeCluster, folder: str) -> None:
    """Pods of the templates, the sidecar's too, in a namespace that enforces it."""
    refusals = [
        refusal
        for each in workloads(rendered(folder))
        if (refusal := refused(installed, each, "mcp-sentinel"))
    ]
    assert refusals == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_the_sidecar_are_taken(
    installed: KubeCluster, tmp_path: Path, variant: str
) -> None:
    """As they are written; the redirection alone asks for more than `restricted` grants."""
    objects = variant_of(tmp_path / "mine", variant)
    text = yaml.safe_dump_all(objects)
    done = installed.kubectl("apply", "--dry-run=server", *STRICT, "--filename", "-", text=text)
    assert done.returncode == 0, done.stderr
    (example,) = workloads(objects)
    refusal = refused(installed, example, "mcp-sentinel")
    if variant == "loopback":
        assert refusal == ""
        assert "Warning" not in done.stderr
        return
    assert 'container "redirect" must not include "NET_ADMIN"' in refusal
    others = [each for each in example.pod["initContainers"] if each["name"] != "redirect"]
    example.pod["initContainers"] = others
    assert refused(installed, example, "mcp-sentinel") == ""


def refused(cluster: KubeCluster, workload: Workload, namespace: str) -> str:
    """What the API server has against a pod of it; empty where it takes it."""
    claimed = [
        {"name": each, "persistentVolumeClaim": {"claimName": each}} for each in workload.claims
    ]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{workload.name}-x", "namespace": namespace},
        "spec": workload.pod | {"volumes": [*workload.pod.get("volumes", ()), *claimed]},
    }
    text = yaml.safe_dump(pod)
    words = ("create", "--dry-run=server", *STRICT, "--filename", "-")
    done = cluster.kubectl(*words, text=text)
    return done.stderr if done.returncode else ""

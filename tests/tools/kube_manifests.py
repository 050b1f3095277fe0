"""The manifests as kustomize puts them together, and what tests ask of them."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tests.tools.kube_binaries import ROOT, binaries

Raw = dict[str, Any]

K8S: Final = ROOT / "k8s"
OVERLAYS: Final = ("overlays/single-node", "overlays/production")
EXAMPLE: Final = "example"
VARIANTS: Final = ("loopback", "redirect")  # components beside that of the sidecar
SIDECAR: Final = "sentinel.mcpruntime.org/sidecar"


@cache
def rendered(folder: str) -> tuple[Raw, ...]:
    """Objects of a folder with a kustomization below k8s/; not to be changed."""
    return tuple(yaml.safe_load_all(rendered_text(K8S / folder)))


def rendered_text(folder: Path) -> str:
    """What `kubectl kustomize` prints."""
    kubectl = str(binaries() / "kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def variant_of(example: Path, variant: str) -> tuple[Raw, ...]:
    """The example with a variant of the sidecar, as a user would write its kustomization.

    Args:
        example: a new folder for that.
    """
    example.mkdir()
    own = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [_way(example, K8S / EXAMPLE)],
        "components": [_way(example, K8S / "components" / variant)],
    }
    (example / "kustomization.yaml").write_text(yaml.safe_dump(own))
    return tuple(yaml.safe_load_all(rendered_text(example)))


def _way(start: Path, end: Path) -> str:
    return os.path.relpath(end.resolve(), start.resolve())


@dataclass(frozen=True, slots=True)
class Workload:
    """What makes pods.

    Args:
        raw: the Deployment, StatefulSet or Job.
    """

    raw: Raw

    @property
    def name(self) -> str:
        return str(self.raw["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.raw["metadata"]["namespace"])

    @property
    def replicas(self) -> int:
        return int(self.raw["spec"].get("replicas", 1))

    @property
    def labels(self) -> Mapping[str, str]:
        """Of its pods."""
        found: Mapping[str, str] = self.raw["spec"]["template"]["metadata"]["labels"]
        return found

    @property
    def pod(self) -> Raw:
        """The spec of its pods."""
        found: Raw = self.raw["spec"]["template"]["spec"]
        return found

    @property
    def containers(self) -> Sequence[Raw]:
        """All, those of the start first."""
        return [*self.pod.get("initContainers", ()), *self.pod["containers"]]

    @property
    def grace(self) -> int:
        """Seconds that a pod has from being told to end until it is killed."""
        return int(self.pod.get("terminationGracePeriodSeconds", 30))

    @property
    def longest_wait(self) -> int:
        """Seconds that its containers go on before they are told."""
        return max(wait_of(each) for each in self.containers)

    @property
    def claims(self) -> Sequence[str]:
        """Names of the volumes that it has claimed for each pod."""
        return [
            each["metadata"]["name"] for each in self.raw["spec"].get("volumeClaimTemplates", ())
        ]


def wait_of(container: Raw) -> int:
    """Seconds that it goes on before it is told to end."""
    sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
    return int(sleep.get("seconds", 0))


def workloads(objects: Sequence[Raw]) -> Iterator[Workload]:
    """All that make pods."""
    for each in objects:
        if each["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield Workload(each)


def named(objects: Sequence[Raw], kind: str) -> Mapping[tuple[str, str], Raw]:
    """Objects of a kind by namespace and name."""
    return {
        (each["metadata"].get("namespace", ""), each["metadata"]["name"]): each
        for each in objects
        if each["kind"] == kind
    }


def workload(folder: str, name: str) -> Workload:
    """The one of that name."""
    (found,) = (each for each in workloads(rendered(folder)) if each.name == name)
    return found


def environment(folder: str, of: Workload, container: Raw) -> dict[str, str]:
    """What a container is started with in a pod `pod-1`; `secret-KEY` stands for a secret."""
    config = named(rendered(folder), "ConfigMap")
    pod = {
        "metadata.name": "pod-1",
        "metadata.namespace": of.namespace,
        "metadata.labels['app']": of.labels["app"],
        "metadata.labels['apps.kubernetes.io/pod-index']": "1",
    }
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= config[of.namespace, source["configMapRef"]["name"]]["data"]
    for entry in container.get("env", ()):
        value = entry.get("value")
        if value is None:
            value = _from(entry["valueFrom"], pod, config, of.namespace)
        for name, known in found.items():
            value = value.replace(f"$({name})", known)
        found[entry["name"]] = value
    return found


def _from(
    source: Raw, pod: Mapping[str, str], config: Mapping[tuple[str, str], Raw], namespace: str
) -> str:
    if secret := source.get("secretKeyRef"):
        return f"secret-{secret['key']}"
    if ref := source.get("configMapKeyRef"):
        return str(config[namespace, ref["name"]]["data"][ref["key"]])
    return pod[source["fieldRef"]["fieldPath"]]

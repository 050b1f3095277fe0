"""docs/kubernetes.md, followed word by word against a new cluster."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from extauthz.core.config import load
from tests.tools.kube_binaries import ROOT, binaries
from tests.tools.kube_cluster import KubeCluster, running_cluster
from tests.tools.kube_manifests import EXAMPLE, K8S, named, rendered_text, workloads
from ui.settings import Settings as UiSettings

DOCUMENT = (ROOT / "docs/kubernetes.md").read_text()
SECTIONS = {"Installation": 4, "First steps": 11}  # with how many commands at least
BIN = ".venv/bin/"


def told(section: str) -> Iterator[tuple[str, list[str]]]:
    """Each command with the lines that the document shows after it; none where it shows none."""
    found = re.search(rf"## {section}\n(.*?)\n## ", DOCUMENT, re.DOTALL)
    assert found
    blocks = re.findall(r"(?:^    .*\n)+", found[1], re.MULTILINE)
    shown = "".join(block for block in blocks if block.startswith("    $ "))
    lines = [line[4:] for line in shown.splitlines()]
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield lines[start].removeprefix("$ "), lines[start + 1 : end]


def plain(lines: list[str]) -> list[str]:
    """Without how old things are, and how wide columns came out."""
    return [re.sub(r"\s\d+m?s$", "", re.sub(r"\s+", " ", line).strip()) for line in lines]


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[KubeCluster]:
    """A cluster that knows nothing of Sentinel."""
    with running_cluster(tmp_path / "cluster") as cluster:
        yield cluster


@pytest.mark.parametrize("section", SECTIONS)
def test_steps_end_as_told(newcomer: KubeCluster, tmp_path: Path, section: str) -> None:
    """Each command works, and prints what stands below it."""
    environ = {
        "PATH": f"{binaries()}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "KUBECONFIG": str(newcomer.kubeconfig),
    }
    commands = list(told(section))
    assert len(commands) >= SECTIONS[section]
    for command, expected in commands:
        words = command.replace(BIN, f"{Path(sys.executable).parent}/")
        done = subprocess.run(
            words, shell=True, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
        )
        refused = done.returncode and not command.startswith("kubectl auth can-i")
        assert not refused, f"{command}\n{done.stderr}"
        if expected or not command.startswith("kubectl apply"):
            assert plain(done.stdout.splitlines()) == plain(expected), command


def test_every_column_is_told() -> None:
    """Of `kubectl get`, whatever the kind; the table says what each means."""
    from k8s.generate import definitions

    shown = {
        name.upper()
        for _, text in definitions()
        for name in re.findall(r"^    - name: (\w+)\n      type: \w+\n      jsonPath", text, re.M)
    }
    assert shown
    table = DOCUMENT.split("| column | says |")[1].split("\n\n")[0]
    assert shown - set(re.findall(r"`([A-Z]+)`", table)) <= {"AGE", "MODE"}


def kustomization(first: str, folder: Path) -> str:
    """What the one in the document that begins with that line makes, with a server to guard."""
    (found,) = (
        block
        for block in re.findall(r"(?:^    .*\n)+", DOCUMENT, re.MULTILINE)
        if block.startswith(f"    {first}")
    )
    k8s = os.path.relpath(K8S, folder)
    text = "\n".join(line[4:] for line in found.splitlines())
    (folder / "kustomization.yaml").write_text(text.replace("../mcp-sentinel/k8s", k8s))
    (folder / "server.yaml").write_text((K8S / EXAMPLE / "13-mcp-example.yaml").read_text())
    return rendered_text(folder)


def test_own_settings_are_taken(tmp_path: Path) -> None:
    """As the document has them: another name for an image, other values, all else as it was."""
    objects = list(yaml.safe_load_all(kustomization("resources: [../mcp", tmp_path)))
    config = named(objects, "ConfigMap")["mcp-sentinel", "mcp-sentinel-config"]["data"]
    assert (config["MCP_CLUSTER_NAME"], config["OIDC_AUDIENCE"]) == ("europe", "sentinel")
    assert config["ACCESS_URL"] == "kubernetes://"
    ui = named(objects, "ConfigMap")["mcp-sentinel", "mcp-sentinel-ui-config"]["data"]
    signs_in = {"OIDC_ISSUER": config["OIDC_ISSUER"], "OIDC_CLIENT_ID": config["OIDC_AUDIENCE"]}
    assert load(UiSettings, ui | signs_in).public_url == "https://sentinel.example.org"
    images = {one["image"] for each in workloads(objects) for one in each.containers}
    assert "example/mcp-sentinel-backend:0.1.0" in images
    assert "mcp-sentinel-envoy:0.1.0" in images


def test_own_servers_are_guarded(tmp_path: Path) -> None:
    """By the kustomization that the document has, in a namespace of theirs."""
    objects = list(yaml.safe_load_all(kustomization("resources: [server.yaml]", tmp_path)))
    (server,) = workloads(objects)
    assert server.namespace == "my-servers"
    assert [each["name"] for each in server.containers] == ["decision-point", "envoy", "mcp-server"]
    assert ("my-servers", "mcp-sentinel-sidecar") in named(objects, "NetworkPolicy")

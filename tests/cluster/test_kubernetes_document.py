"""docs/kubernetes.md, followed word by word against a new cluster."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.kube_binaries import ROOT, binaries
from tests.tools.kube_cluster import KubeCluster, running_cluster

DOCUMENT = (ROOT / "docs/kubernetes.md").read_text()
SECTION = re.search(r"## First steps\n(.*?)\n## ", DOCUMENT, re.DOTALL)
BIN = ".venv/bin/"


def told() -> Iterator[tuple[str, list[str]]]:
    """Each command with the lines that the document shows after it; none where it shows none."""
    assert SECTION
    lines = [line[4:] for line in SECTION[1].splitlines() if line.startswith("    ")]
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


def test_the_first_steps_end_as_told(newcomer: KubeCluster, tmp_path: Path) -> None:
    """Each command works, and prints what stands below it."""
    environ = {
        "PATH": f"{binaries()}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "KUBECONFIG": str(newcomer.kubeconfig),
    }
    commands = list(told())
    assert len(commands) > 10
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

"""Where a real Kubernetes for tests comes from: found, or built once with Go.

`python -m tests.tools.kube_binaries` builds it ahead, which takes ten minutes of CPU.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SOURCE: Final = Path(__file__).parent / "kubernetes"
BUILT: Final = ROOT / "build/kubernetes/bin"
NAMES: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
ASSETS: Final = "KUBEBUILDER_ASSETS"  # the folder's name in the environment, as envtest has it


class Absent(Exception):
    """No Kubernetes is here, and none can be built; the message says what to do."""


def binaries() -> Path:
    """The folder with all of `NAMES`: KUBEBUILDER_ASSETS, built before, on PATH, or built now.

    Raises:
        Absent: no Go to build it with, or what KUBEBUILDER_ASSETS names is incomplete.
    """
    if named := os.environ.get(ASSETS):
        if missing := [name for name in NAMES if not (Path(named) / name).is_file()]:
            raise Absent(f"{ASSETS} `{named}` lacks {', '.join(missing)}; add them or unset it")
        return Path(named)
    if _is_current():
        return BUILT
    folders = {Path(found).parent for name in NAMES if (found := shutil.which(name))}
    if len(folders) == 1 and all((next(iter(folders)) / name).is_file() for name in NAMES):
        return folders.pop()
    _build()
    return BUILT


def _is_current() -> bool:
    stamp = BUILT / "version"
    return stamp.is_file() and stamp.read_text() == _version()


def _version() -> str:
    found = re.search(r"k8s\.io/kubernetes (v\S+)", (SOURCE / "go.mod").read_text())
    assert found
    return found[1]


def _build() -> None:
    """One program after the other, each told on the terminal."""
    go = shutil.which("go")
    if go is None:
        raise Absent(f"no Kubernetes for tests; install Go 1.24 or later, or set {ASSETS}")
    BUILT.mkdir(parents=True, exist_ok=True)
    version = _version()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    stated = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X k8s.io/component-base/version.{n}={v}" for n, v in stated.items())
    environ = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    for number, name in enumerate(NAMES, 1):
        tell(f"building {name} for Kubernetes {version} ({number} of {len(NAMES)}) …")
        begun = time.monotonic()
        words = [go, "build", "-trimpath", "-ldflags", f"-s -w {flags}"]
        words += ["-o", str(BUILT / name), f"./cmd/{name}"]
        done = subprocess.run(
            words, cwd=SOURCE, env=environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Absent(f"go cannot build {name}:\n{done.stderr[-2000:]}")
        tell(f"built {name} in {time.monotonic() - begun:.0f} s")
    (BUILT / "version").write_text(version)


def tell(line: str) -> None:
    """To the terminal, under a test run too."""
    print(line, file=sys.__stderr__, flush=True)


if __name__ == "__main__":
    try:
        binaries()
    except Absent as absent:
        tell(f"error: {absent}")
        sys.exit(1)

"""The keys of a new cluster."""

import json
import re
import subprocess
import sys

from k8s.new_keys import ADMIN, PASSWORDS, new_keys, patch
from tests.tools.kube_binaries import ROOT


def test_no_two_are_alike() -> None:
    """But for the one that has several names; and none can be guessed, or read in another way."""
    one, other = new_keys(), new_keys()
    assert len({one[name] for name in PASSWORDS} | {one[ADMIN[0]]}) == len(PASSWORDS) + 1
    assert {one[name] for name in ADMIN} == {one[ADMIN[0]]}
    assert not set(one.values()) & set(other.values())
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in one.values())


def test_they_are_what_manifests_ask_for() -> None:
    """Each that a manifest names, and none that nobody names but mcp-runtime's users."""
    asked = {
        key
        for file in (ROOT / "k8s").rglob("*.yaml")
        for key in re.findall(r"name: mcp-sentinel-secrets, key: (\w+)", file.read_text())
    }
    assert asked | {"UI_API_KEY"} == set(new_keys())


def test_the_command_needs_nothing_but_python() -> None:
    """It prints a patch, for kubectl, and no more."""
    words = [sys.executable, "-I", "-S", str(ROOT / "k8s/new_keys.py")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    steps = json.loads(done.stdout)
    assert [step["op"] for step in steps] == ["test", "add"]
    assert steps[1]["value"].keys() == json.loads(patch(new_keys()))[1]["value"].keys()

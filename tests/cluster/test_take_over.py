"""A cluster that runs mcp-runtime keeps its objects."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from extauthz.core.errors import Invalid
from extauthz.core.resources import parse_object
from tests.tools.kube_cluster import KubeCluster
from tests.tools.kube_objects import Served

WRITTEN = Path(__file__).parent / "mcp-runtime.yaml"
OBJECTS = list(yaml.safe_load_all(WRITTEN.read_text()))
UNREADABLE = {
    "with-mtls": "spec.auth.mode: `mtls` is not supported yet; use header or oauth",
    "with-oauth": "spec.auth.issuerURL: is required in mode oauth; set the issuer's URL",
}


@pytest.mark.parametrize("written", OBJECTS, ids=lambda each: each["metadata"]["name"])
def test_its_objects_are_kept(served: Served, namespace: str, written: Any) -> None:
    """Each is taken, and no member is changed or lost; a default is what it says of itself."""
    stored = served.create(written, namespace)
    assert _without_more(stored["spec"], written["spec"]) == written["spec"]
    if said := UNREADABLE.get(written["metadata"]["name"]):
        with pytest.raises(Invalid) as caught:
            parse_object(stored)
        assert str(caught.value) == said
    else:
        there = written | {"metadata": written["metadata"] | {"namespace": namespace}}
        assert _read(stored) == _read(there)


def test_kubectl_applies_them(cluster: KubeCluster, namespace: str) -> None:
    """Strictly, as kubectl does: no field is unknown; a second time nothing changes."""
    words = ("apply", "--namespace", namespace, "--filename", str(WRITTEN))
    first, second = cluster.kubectl(*words), cluster.kubectl(*words)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.count(" created\n") == len(OBJECTS)
    assert second.stdout.count(" unchanged\n") == len(OBJECTS)


def test_its_status_is_kept(served: Served, namespace: str) -> None:
    """What its operator writes into a status stays there, what we do not know included."""
    stored = served.create(OBJECTS[0], namespace)
    status = {"phase": "Ready", "deploymentReady": True, "canaryReady": False, "url": "https://x"}
    assert served.set_status(stored, **status)["status"] == status


def _read(value: Any) -> Any:
    """The object's meaning, but for when it was made."""
    return parse_object(value | {"metadata": value["metadata"] | {"creationTimestamp": None}})


def _without_more(value: Any, wanted: Any) -> Any:
    """`value` without the members of its objects that `wanted` does not have."""
    if isinstance(value, dict):
        return {n: _without_more(value[n], wanted[n]) for n in wanted if n in value}
    if isinstance(value, list):
        return [_without_more(*both) for both in zip(value, wanted, strict=True)]
    return value

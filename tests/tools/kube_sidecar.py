"""What the pod of an MCP server's sidecar has on a cluster without nodes."""

import json
from pathlib import Path
from typing import Any

from tests.tools.kube_cluster import KubeCluster
from tests.tools.waiting import eventually

AUDIENCE = "mcp-sentinel-controller"


def mounted(cluster: KubeCluster, namespace: str, folder: Path) -> dict[str, Any]:
    """A pod of the server `demo`: the files of its token and of the controller's authority."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "demo-1", "namespace": namespace, "labels": {"app": "demo"}},
        "spec": {"serviceAccountName": "any", "containers": [{"name": "c", "image": "none"}]},
    }
    cluster.kubectl("create", "serviceaccount", "any", "--namespace", namespace)
    done = cluster.kubectl("create", "--filename", "-", text=json.dumps(pod))
    assert done.returncode == 0, done.stderr
    words = ("create", "token", "any", "--namespace", namespace, f"--audience={AUDIENCE}")
    bound = ("--bound-object-kind=Pod", "--bound-object-name=demo-1")
    (folder / "token").write_text(cluster.kubectl(*words, *bound).stdout.strip())
    wanted = ("get", "configmap", "mcp-sentinel-controller-ca", "--namespace", namespace)
    path = ("--output", r"jsonpath={.data.ca\.crt}")
    eventually(lambda: cluster.kubectl(*wanted, *path).stdout, "the authority is published")
    (folder / "ca.crt").write_text(cluster.kubectl(*wanted, *path).stdout)
    return {"ca_file": folder / "ca.crt", "token_file": folder / "token", "namespace": namespace}

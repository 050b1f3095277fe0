"""Workloads of a test, as they are applied."""

from typing import Any


def workload(
    name: str, image: str, *, kind: str = "Deployment", replicas: int = 1, metrics: int = 9102
) -> dict[str, Any]:
    """Pods are labelled as mcp-runtime's are. Args: metrics: port for operators."""
    labels = {"app": name}
    container = {
        "name": "main",
        "image": image,
        "ports": [{"name": "metrics", "containerPort": metrics}],
    }
    spec: dict[str, Any] = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
        },
    }
    if kind == "Deployment":
        spec["strategy"] = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    else:
        spec["serviceName"] = name
    meta = {"name": name, "labels": labels}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": spec}

"""Custom resources for tests, as parsed from YAML."""

from typing import Any


def obj(kind: str, name: str, spec: dict[str, Any], namespace: str = "ns", **meta: Any) -> Any:
    return {
        "apiVersion": "mcpruntime.org/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace} | meta,
        "spec": spec,
    }


def server(name: str = "srv", **spec: Any) -> Any:
    return obj("MCPServer", name, spec)


def grant(name: str = "g", namespace: str = "ns", **spec: Any) -> Any:
    base = {"serverRef": {"name": "srv", "namespace": "ns"}, "subject": {"agentID": "a"}}
    return obj("MCPAccessGrant", name, base | spec, namespace)


def session(name: str = "s", namespace: str = "ns", created: str = "", **spec: Any) -> Any:
    base = {"serverRef": {"name": "srv", "namespace": "ns"}, "subject": {"agentID": "a"}}
    meta = {"creationTimestamp": created} if created else {}
    return obj("MCPAgentSession", name, base | spec, namespace, **meta)

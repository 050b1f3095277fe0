"""Custom resources as a real API server takes them."""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kubernetes import client, config

from extauthz.core.model import API_VERSION
from tests.tools.kube_cluster import KubeCluster
from tests.tools.waiting import eventually

DEFINITIONS = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
GROUP, _, VERSION = API_VERSION.partition("/")
PLURALS = {
    "MCPServer": "mcpservers",
    "MCPAccessGrant": "mcpaccessgrants",
    "MCPAgentSession": "mcpagentsessions",
}


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that the API server says is wrong. Args: field: a path; text: the words."""

    field: str
    text: str


class Served:
    """The API of one cluster. Attributes: api: its client, as the admin."""

    def __init__(self, cluster: KubeCluster) -> None:
        self.api = config.new_client_from_config(config_file=str(cluster.kubeconfig))
        self._objects = client.CustomObjectsApi(self.api)

    def create(self, value: Any, namespace: str = "default") -> Any:
        """Create an object in `namespace`, whatever the object says; what is stored."""
        return self._create(value, namespace)

    def get(self, value: Any) -> Any:
        """An object that is there, as it is now."""
        meta = value["metadata"]
        return self._objects.get_namespaced_custom_object(
            GROUP, VERSION, meta["namespace"], PLURALS[value["kind"]], meta["name"]
        )

    def clear(self, namespace: str) -> None:
        """Delete all custom resources of a namespace; nobody holds them by a finalizer."""
        for plural in PLURALS.values():
            self._objects.delete_collection_namespaced_custom_object(
                GROUP, VERSION, namespace, plural
            )

    def replace(self, value: Any) -> Any:
        """Replace an object, as `get` gave it."""
        meta = value["metadata"]
        return self._objects.replace_namespaced_custom_object(
            GROUP, VERSION, meta["namespace"], PLURALS[value["kind"]], meta["name"], value
        )

    def set_status(self, value: Any, **status: Any) -> Any:
        """Write the status of a stored object; what is stored then."""
        meta = value["metadata"]
        return self._objects.replace_namespaced_custom_object_status(
            *(GROUP, VERSION, meta["namespace"], PLURALS[value["kind"]], meta["name"]),
            value | {"status": status},
        )

    def causes(self, value: Any) -> list[Cause]:
        """Why the API server refuses a new object as `kubectl` sends it; empty where it does not.

        Nothing is stored.
        """
        try:
            self._create(value, "default", dry_run="All", field_validation="Strict")
        except client.ApiException as error:
            return causes_of(error)
        return []

    @contextmanager
    def without_rules(self, bad: Any) -> Iterator[None]:
        """Define the kind of `bad` without any rule, so that it can be created, for the block."""
        name = f"{PLURALS[bad['kind']]}.{GROUP}"
        strict = self._objects.get_cluster_custom_object(*DEFINITIONS, name)
        lenient = copy.deepcopy(strict)
        version = lenient["spec"]["versions"][0]
        version["schema"]["openAPIV3Schema"] = {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
        }
        del version["selectableFields"]
        self._objects.replace_cluster_custom_object(*DEFINITIONS, name, lenient)
        try:
            eventually(lambda: not self.causes(bad), "the rules are away", every=0.02)
            yield
        finally:
            now = self._objects.get_cluster_custom_object(*DEFINITIONS, name)
            strict["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"]
            self._objects.replace_cluster_custom_object(*DEFINITIONS, name, strict)
            eventually(lambda: self.causes(bad), "the rules are there", every=0.02)

    def _create(self, value: Any, namespace: str, **options: str) -> Any:
        body = value | {"metadata": value["metadata"] | {"namespace": namespace}}
        return self._objects.create_namespaced_custom_object(
            GROUP, VERSION, namespace, PLURALS[value["kind"]], body, **options
        )


def causes_of(error: client.ApiException) -> list[Cause]:
    """What a refusal tells."""
    status = json.loads(error.body)
    found = status.get("details", {}).get("causes", [])
    if not found:
        return [Cause("", status["message"])]
    return [Cause(cause.get("field", ""), cause["message"]) for cause in found]

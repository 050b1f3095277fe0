"""Adoption at an API server: a label of the ConfigMap says whose it is.

Annotations of the MCPServer remember whose it was, and since when it is ours; that they change
makes the controller look again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kubernetes import client

from backend.adapters.kubernetes_client import BOUNDED, CustomObjects, translated
from backend.adapters.kubernetes_objects import MANAGED_BY, OURS, server_owner
from backend.ports.adoption import PolicyMap
from backend.ports.control_plane import POLICY_MAP, POLICY_MEMBER
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import NotFound
from extauthz.core.governance import Key
from extauthz.core.times import format_instant

ADOPTED_FROM: Final = "sentinel.mcpruntime.org/policy-adopted-from"
ADOPTED_AT: Final = "sentinel.mcpruntime.org/policy-adopted-at"
_SERVERS: Final = "mcpservers"
PART_OF: Final = "app.kubernetes.io/part-of"
DEFINITIONS: Final = tuple(
    f"{plural}.mcpruntime.org" for plural in (_SERVERS, "mcpaccessgrants", "mcpagentsessions")
)


class KubernetesAdoption:
    """The policies of a cluster.

    Args:
        manager: by whose name writes are kept (`metadata.managedFields`).
        clock: seconds since the epoch.
    """

    def __init__(
        self, api: client.ApiClient, *, manager: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._core, self._manager, self._clock = client.CoreV1Api(api), manager, clock
        self._definitions = client.ApiextensionsV1Api(api)
        self._objects = CustomObjects(api, manager=manager)

    def foreign_definitions(self) -> Sequence[str]:
        found = []
        for name in DEFINITIONS:
            with translated(f"CustomResourceDefinition `{name}`"):
                meta = self._definitions.read_custom_resource_definition(name, **BOUNDED).metadata
            assert meta is not None
            if (meta.labels or {}).get(PART_OF) != OURS:
                found.append(name)
        return found

    def policy_map(self, server: ObjectRef) -> PolicyMap | None:
        owner = self._objects.get(_SERVERS, _key(server))["metadata"]
        name = POLICY_MAP.format(server.name)
        try:
            with translated(f"ConfigMap `{server.namespace}/{name}`"):
                found = self._core.read_namespaced_config_map(name, server.namespace, **BOUNDED)
        except NotFound:
            return None
        meta = found.metadata
        assert meta is not None
        references = [{"kind": each.kind, "uid": each.uid} for each in meta.owner_references or ()]
        return PolicyMap(
            manager=str((meta.labels or {}).get(MANAGED_BY) or ""),
            is_of_server=server_owner(references) in {"", owner["uid"]},
            adopted_from=str((owner.get("annotations") or {}).get(ADOPTED_FROM) or ""),
            text=str((found.data or {}).get(POLICY_MEMBER) or ""),
            version=str(meta.resource_version),
        )

    def adopt(self, server: ObjectRef, found: PolicyMap, *, rehearsed: bool) -> None:
        since = format_instant(self._clock())
        notes = {ADOPTED_FROM: found.manager, ADOPTED_AT: since}
        self._hand_over(server, found, OURS, notes, rehearsed=rehearsed)

    def release(self, server: ObjectRef, found: PolicyMap, *, rehearsed: bool) -> None:
        notes = {ADOPTED_FROM: None, ADOPTED_AT: None}
        self._hand_over(server, found, found.adopted_from, notes, rehearsed=rehearsed)

    def _hand_over(
        self,
        server: ObjectRef,
        found: PolicyMap,
        to: str,
        notes: Mapping[str, str | None],
        *,
        rehearsed: bool,
    ) -> None:
        """The ConfigMap first: the controller looks at it once the server has changed."""
        name = POLICY_MAP.format(server.name)
        meta = {"resourceVersion": found.version, "labels": {MANAGED_BY: to}}
        options: dict[str, Any] = BOUNDED | {"field_manager": self._manager}
        options |= {"dry_run": "All"} if rehearsed else {}
        with translated(f"ConfigMap `{server.namespace}/{name}`"):
            self._core.patch_namespaced_config_map(
                name, server.namespace, {"metadata": meta}, **options
            )
        body = {"metadata": {"annotations": dict(notes)}}
        self._objects.patch(_SERVERS, _key(server), body, rehearsed=rehearsed)


def _key(server: ObjectRef) -> Key:
    return Key("MCPServer", server.namespace, server.name)

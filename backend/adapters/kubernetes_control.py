"""ControlPlane over a cluster: what its API server says, as values, and what is written there."""

from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

from backend.adapters.kubernetes_calls import ApiCalls, Raw
from backend.adapters.kubernetes_lists import follow_all, list_all
from backend.adapters.kubernetes_network import KubernetesNetwork, pod_of
from backend.adapters.kubernetes_objects import (
    MANAGED_BY,
    OURS,
    condition_raw,
    lease_of,
    server_owner,
    standing_of,
)
from backend.ports.control_plane import (
    Caller,
    Condition,
    ConfigMap,
    Lease,
    Listing,
    Note,
    Observed,
    PolicyStatus,
    Secret,
    Standing,
)
from backend.ports.network import Pod
from extauthz.core.errors import NotFound
from extauthz.core.model import API_VERSION

MANAGER: Final = "mcp-sentinel-controller"
LEASE: Final = "mcp-sentinel-controller"
_PLURALS: Final = {
    "MCPServer": "mcpservers",
    "MCPAccessGrant": "mcpaccessgrants",
    "MCPAgentSession": "mcpagentsessions",
}
_APPLY: Final = "application/apply-patch+yaml"  # JSON is YAML
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_SHORT: Final = 19  # `sha256:` and twelve digits of a revision


class KubernetesControl:
    """The API server of a cluster.

    Args:
        namespace: where the controller itself runs; its lease is there.
        instance: name of this replica.
        clock: seconds since the epoch.
    """

    def __init__(
        self, calls: ApiCalls, *, namespace: str, instance: str, clock: Callable[[], float]
    ) -> None:
        self._calls, self._instance, self._clock = calls, instance, clock
        self._network = KubernetesNetwork(calls)
        leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._secrets = f"/api/v1/namespaces/{namespace}/secrets"
        self._leases, self._lease = leases, f"{leases}/{LEASE}"

    @property
    def network(self) -> KubernetesNetwork:
        return self._network

    async def listed(self, kind: str) -> Listing[Standing]:
        return await list_all(self._calls, _objects(kind), partial(standing_of, kind))

    async def changes(self, kind: str, since: str) -> AsyncGenerator[Observed[Standing], None]:
        read = partial(standing_of, kind)
        async for observed in follow_all(self._calls, _objects(kind), since, read):
            yield observed

    async def write_status(
        self, standing: Standing, conditions: Sequence[Condition], policy: PolicyStatus | None
    ) -> None:
        key = standing.key
        status: Raw = {"conditions": [condition_raw(each) for each in conditions]}
        if policy is not None:
            status["policy"] = {
                "revision": policy.revision,
                "shortRevision": policy.revision[:_SHORT],
                "connected": policy.connected,
                "enforcing": policy.enforcing,
                "sidecars": f"{policy.enforcing}/{policy.connected}",
            }
        meta = {"name": key.name, "namespace": key.namespace, "uid": standing.uid}
        body = {"apiVersion": API_VERSION, "kind": key.kind, "metadata": meta, "status": status}
        path = f"{_objects(key.kind, key.namespace)}/{key.name}/status"
        await self._apply(path, body)

    async def review(self, token: str, audience: str) -> Caller | None:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        answer = await self._calls.ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)
        status = answer.get("status") or {}
        user = status.get("user") or {}
        name = str(user.get("username") or "").split(":")
        known = status.get("authenticated") and audience in (status.get("audiences") or ())
        if not known or len(name) != 4 or name[:2] != ["system", "serviceaccount"]:
            return None
        extra = user.get("extra") or {}
        pod, uid = ((extra.get(each) or [""])[0] for each in (_POD_NAME, _POD_UID))
        return Caller(namespace=name[2], account=name[3], pod=pod, pod_uid=uid)

    async def pod(self, caller: Caller) -> Pod | None:
        try:
            path = f"/api/v1/namespaces/{caller.namespace}/pods/{caller.pod}"
            raw = await self._calls.ask("GET", path)
        except NotFound:
            return None
        return pod_of(raw) if raw["metadata"]["uid"] == caller.pod_uid else None

    async def lease(self) -> Lease | None:
        try:
            return lease_of(await self._calls.ask("GET", self._lease))
        except NotFound:
            return None

    async def write_lease(self, lease: Lease) -> Lease:
        meta = {"name": LEASE} | ({"resourceVersion": lease.version} if lease.version else {})
        spec = {
            "holderIdentity": lease.holder,
            "leaseDurationSeconds": lease.seconds,
            "acquireTime": lease.acquired_at or self._now(),
            "renewTime": self._now(),
            "leaseTransitions": lease.transitions,
        }
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": meta,
            "spec": spec,
        }
        if lease.version:
            return lease_of(await self._calls.ask("PUT", self._lease, body))
        return lease_of(await self._calls.ask("POST", self._leases, body))

    async def lease_changes(self) -> AsyncGenerator[Lease, None]:
        chosen = {"fieldSelector": f"metadata.name={LEASE}"}
        async for event in self._calls.watch(self._leases, chosen):
            if event and event["type"] != "BOOKMARK":
                yield lease_of(event["object"])

    async def note(self, note: Note) -> None:
        about, now = note.about, self._now()
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "generateName": f"{about.name[:200].strip('.-')}-",
                "namespace": about.namespace,
            },
            "eventTime": now,
            "type": note.kind,
            "reason": note.reason,
            "action": "Reconcile",
            "note": note.message[:1000],
            "reportingController": "mcpruntime.org/sentinel-controller",
            "reportingInstance": self._instance[:128],
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": note.uid,
            },
        }
        path = f"/apis/events.k8s.io/v1/namespaces/{about.namespace}/events"
        await self._calls.ask("POST", path, body)

    async def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        try:
            raw = await self._calls.ask("GET", f"{_config_maps(namespace)}/{name}")
        except NotFound:
            return None
        meta = raw["metadata"]
        owner = server_owner(meta.get("ownerReferences") or ())
        is_ours = (meta.get("labels") or {}).get(MANAGED_BY) == OURS
        return ConfigMap(owner, is_ours, raw.get("data") or {})

    async def write_config_map(
        self, namespace: str, name: str, owner: Standing | None, data: Mapping[str, str]
    ) -> None:
        meta: Raw = {"name": name, "namespace": namespace, "labels": {MANAGED_BY: OURS}}
        if owner is not None:
            reference = {"apiVersion": API_VERSION, "kind": owner.key.kind, "name": owner.key.name}
            meta["labels"]["app"] = owner.key.name
            meta["ownerReferences"] = [reference | {"uid": owner.uid}]
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": dict(data)}
        await self._apply(f"{_config_maps(namespace)}/{name}", body)

    async def delete_config_map(self, namespace: str, name: str) -> None:
        await self._calls.ask("DELETE", f"{_config_maps(namespace)}/{name}")

    async def secret(self, name: str) -> Secret | None:
        try:
            raw = await self._calls.ask("GET", f"{self._secrets}/{name}")
        except NotFound:
            return None
        data = {each: b64decode(value) for each, value in (raw.get("data") or {}).items()}
        return Secret(data, raw["metadata"]["resourceVersion"])

    async def write_secret(self, name: str, secret: Secret) -> None:
        data = {each: b64encode(value).decode() for each, value in secret.data.items()}
        meta: Raw = {"name": name, "labels": {MANAGED_BY: OURS}}
        body: Raw = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data}
        if secret.version:
            meta["resourceVersion"] = secret.version
            await self._calls.ask("PUT", f"{self._secrets}/{name}", body)
        else:
            await self._calls.ask("POST", self._secrets, body)

    def _now(self) -> str:
        """As Kubernetes writes MicroTime."""
        return datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    async def _apply(self, path: str, body: Raw) -> None:
        query = {"fieldManager": MANAGER, "force": "true"}
        await self._calls.ask("PATCH", path, body, query=query, content=_APPLY)


def _objects(kind: str, namespace: str = "") -> str:
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{API_VERSION}{place}/{_PLURALS[kind]}"


def _config_maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"

"""What an API server says of objects, as values."""

from collections.abc import Iterable
from typing import Any, Final

from backend.adapters.kubernetes_calls import Raw
from backend.ports.control_plane import Condition, Lease, PolicyStatus, Standing
from extauthz.core.accounts import named
from extauthz.core.errors import Invalid
from extauthz.core.governance import Key
from extauthz.core.model import API_VERSION
from extauthz.core.resources import parse_object

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
OURS: Final = "mcp-sentinel"


def standing_of(kind: str, raw: Raw) -> Standing:
    meta, status = raw["metadata"], raw.get("status") or {}
    resource, fault = None, ""
    try:
        whole = {"apiVersion": API_VERSION, "kind": kind, "metadata": meta}
        resource = parse_object(whole | {"spec": raw.get("spec") or {}})
    except Invalid as error:
        fault = str(error)
    return Standing(
        key=Key(kind, meta["namespace"], meta["name"]),
        uid=meta["uid"],
        generation=meta.get("generation", 0),
        resource=resource,
        fault=fault,
        conditions=tuple(map(_condition, status.get("conditions") or ())),
        policy=_policy(status.get("policy")),
        writer=_writer(meta),
        accounts=named(meta.get("annotations") or {}),
    )


def _writer(meta: Raw) -> str:
    """Who wrote the spec last."""
    specs = [
        each
        for each in meta.get("managedFields") or ()
        if not each.get("subresource") and "f:spec" in (each.get("fieldsV1") or {})
    ]
    last = max(specs, key=lambda each: str(each.get("time") or ""), default=None)
    return str(last.get("manager") or "") if last else ""


def server_owner(references: Iterable[Raw]) -> str:
    """Uid of the MCPServer that owns an object; empty where none does."""
    return next((str(each["uid"]) for each in references if each["kind"] == "MCPServer"), "")


def _condition(raw: Raw) -> Condition:
    return Condition(
        type=str(raw.get("type") or ""),
        status=str(raw.get("status") or ""),
        reason=str(raw.get("reason") or ""),
        message=str(raw.get("message") or ""),
        generation=int(raw.get("observedGeneration") or 0),
        since=str(raw.get("lastTransitionTime") or ""),
    )


def condition_raw(condition: Condition) -> Raw:
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": condition.generation,
        "lastTransitionTime": condition.since,
    }


def _policy(raw: Any) -> PolicyStatus | None:
    if not isinstance(raw, dict) or not raw.get("revision"):
        return None
    connected, enforcing = (int(raw.get(name) or 0) for name in ("connected", "enforcing"))
    return PolicyStatus(str(raw["revision"]), connected, enforcing)


def lease_of(raw: Raw) -> Lease:
    spec = raw.get("spec") or {}
    return Lease(
        holder=str(spec.get("holderIdentity") or ""),
        seconds=int(spec.get("leaseDurationSeconds") or 0),
        acquired_at=str(spec.get("acquireTime") or ""),
        renewed_at=str(spec.get("renewTime") or ""),
        transitions=int(spec.get("leaseTransitions") or 0),
        version=str(raw["metadata"]["resourceVersion"]),
    )

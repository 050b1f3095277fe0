"""Sidecars as the controller tells of them in the status of their MCPServers. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from backend.adapters.kubernetes_cluster_states import Raw
from backend.ports.cluster import DISPLAY, ComponentState, ServerState, SidecarState, Status
from extauthz.core.errors import Invalid
from extauthz.core.times import parse_instant

KEY: Final = "sidecar"
NONE: Final = "no sidecar follows the controller; add one: docs/kubernetes.md"


def server_state(server: Raw) -> ServerState:
    """A server, each of whose instances has a sidecar."""
    policy = _policy(server)
    connected, enforcing = policy.get("connected", 0), policy.get("enforcing", 0)
    current = str(policy.get("revision") or "")
    return ServerState(
        namespace=server["metadata"]["namespace"],
        name=server["metadata"]["name"],
        endpoint="",  # whatever leads to its Service is not ours to know
        ready=connected,
        wanted=connected,
        cluster="",
        sidecars=tuple(
            SidecarState(
                name=f"{number} of {connected}",
                revision=current if number <= enforcing else "",
                is_ready=True,
            )
            for number in range(1, connected + 1)
        ),
    )


def sidecar_state(servers: Iterable[Raw]) -> ComponentState | None:
    """All sidecars together; None where there is nothing to guard."""
    policies = [_policy(each) for each in servers]
    if not policies:
        return None
    connected = sum(each.get("connected", 0) for each in policies)
    enforcing = sum(each.get("enforcing", 0) for each in policies)
    behind = connected - enforcing
    message = f"{behind} of {connected} do not run the current policy" if behind else ""
    status = Status.DEGRADED if behind else Status.READY
    return ComponentState(
        key=KEY,
        display=DISPLAY[KEY],
        status=status if connected else Status.NOT_DEPLOYED,
        kind="MCPServer",
        resource=f"{len(policies)} server{'s' if len(policies) > 1 else ''}",
        ready=f"{enforcing}/{connected}",
        message=message if connected else NONE,
    )


def with_policy_age(state: ComponentState, told: Iterable[Raw], now: float) -> ComponentState:
    """Of the policy that was confirmed longest ago.

    Args:
        told: what sidecars say of their policies.
        now: seconds since the epoch.
    """
    ages: list[int] = []
    for each in told:
        try:
            at = parse_instant(str(each.get("confirmed_at") or ""), "confirmed_at")
        except Invalid:
            continue
        ages.append(max(0, round(now - at)))
    return msgspec.structs.replace(state, policy_age_seconds=max(ages, default=None))


def selector_of_servers(servers: Sequence[Raw]) -> Mapping[str, str]:
    """By namespace, the label selector of the pods of these servers that have sidecars."""
    names: dict[str, list[str]] = defaultdict(list)
    for each in servers:
        if _policy(each).get("connected"):
            names[each["metadata"]["namespace"]].append(each["metadata"]["name"])
    return {namespace: f"app in ({','.join(found)})" for namespace, found in names.items()}


def _policy(server: Raw) -> Raw:
    found = (server.get("status") or {}).get("policy")
    return found if isinstance(found, dict) else {}

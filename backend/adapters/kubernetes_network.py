"""Services, NetworkPolicies and pods, as an API server has them."""

from collections.abc import AsyncGenerator, Iterable, Iterator
from functools import partial
from typing import Any, Final

from backend.adapters.kubernetes_calls import ApiCalls, Raw
from backend.adapters.kubernetes_lists import follow_all, list_all
from backend.ports.control_plane import Listing, Observed
from backend.ports.network import (
    NetworkObject,
    NetworkPolicy,
    Pod,
    Ports,
    Requirement,
    Service,
)
from extauthz.core.governance import Key

OWN_PORT: Final = "sentinel.mcpruntime.org/own-port"
_PATHS: Final = {
    "Service": "/api/v1/services",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/networkpolicies",
}


class KubernetesNetwork:
    """What decides who reaches pods, in every namespace."""

    def __init__(self, calls: ApiCalls) -> None:
        self._calls = calls

    async def listed(self, kind: str) -> Listing[NetworkObject]:
        return await list_all(self._calls, _PATHS[kind], partial(read_network_object, kind))

    async def changes(self, kind: str, since: str) -> AsyncGenerator[Observed[NetworkObject], None]:
        read = partial(read_network_object, kind)
        async for observed in follow_all(self._calls, _PATHS[kind], since, read):
            yield observed


def pod_of(raw: Raw) -> Pod:
    meta, spec = raw["metadata"], raw["spec"]
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    named = (port for each in containers for port in each.get("ports") or () if port.get("name"))
    return Pod(
        labels=dict(meta.get("labels") or {}),
        ports={port["name"]: port["containerPort"] for port in named},
        is_on_host=bool(spec.get("hostNetwork")),
        own_port=str((meta.get("annotations") or {}).get(OWN_PORT) or ""),
    )


def read_network_object(kind: str, raw: Raw) -> NetworkObject:
    """Args: kind: of `NETWORK_KINDS`."""
    return _service(raw) if kind == "Service" else _network_policy(raw)


def _service(raw: Raw) -> Service:
    spec = raw.get("spec") or {}
    ports = [each for each in spec.get("ports") or () if _is_tcp(each)]
    targets = (_target(each.get("targetPort") or each["port"]) for each in ports)
    is_of_pods = spec.get("type") != "ExternalName"
    selector = dict(spec.get("selector") or {}) if is_of_pods else {}
    return Service(_key("Service", raw), selector, tuple(targets))


def _network_policy(raw: Raw) -> NetworkPolicy:
    spec = raw.get("spec") or {}
    return NetworkPolicy(
        key=_key("NetworkPolicy", raw),
        selector=tuple(_requirements(spec.get("podSelector") or {})),
        is_for_ingress="Ingress" in (spec.get("policyTypes") or ("Ingress",)),
        admits=tuple(_admitted(spec.get("ingress") or ())),
    )


def _admitted(rules: Iterable[Raw]) -> Iterator[Ports]:
    for rule in rules:
        ports = rule.get("ports")
        if not ports:
            yield Ports()
        for each in filter(_is_tcp, ports or ()):
            target = each.get("port")
            yield Ports() if target is None else _target(target, each.get("endPort"))


def _requirements(selector: Raw) -> Iterator[Requirement]:
    for label, value in (selector.get("matchLabels") or {}).items():
        yield Requirement(label, "In", frozenset({value}))
    for each in selector.get("matchExpressions") or ():
        values = frozenset(each.get("values") or ())
        yield Requirement(each["key"], each["operator"], values)


def _target(port: Any, last: Any = None) -> Ports:
    if isinstance(port, str):
        return Ports(name=port)
    return Ports(port, last or port)


def _is_tcp(port: Raw) -> bool:
    return bool(port.get("protocol", "TCP") == "TCP")


def _key(kind: str, raw: Raw) -> Key:
    return Key(kind, raw["metadata"]["namespace"], raw["metadata"]["name"])

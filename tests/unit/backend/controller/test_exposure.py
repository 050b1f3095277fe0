"""Who gets past a server's sidecar."""

from dataclasses import replace
from typing import Any

import pytest

from backend.adapters.kubernetes_network import pod_of, read_network_object
from backend.controller.exposure import Exposure
from backend.ports.control_plane import Condition, Observed, Standing
from backend.ports.network import NETWORK_KINDS, NetworkObject, Pod
from extauthz.core.governance import Key

SERVER = Standing(Key("MCPServer", "ns", "shop"), "uid", 2, None)
CLOSED = {"podSelector": {"matchLabels": {"app": "shop"}}, "ingress": [{"ports": [{"port": 8091}]}]}


def _pod(**spec: Any) -> Pod:
    meta = {"labels": {"app": "shop", "tier": "a"}, "annotations": spec.pop("annotations", None)}
    ports = [{"name": "own", "containerPort": 8088}, {"containerPort": 8089}]
    own = {"containers": [{"ports": ports}]}
    beside = {"initContainers": [{"ports": [{"name": "mcp", "containerPort": 8091}]}]}
    return pod_of({"metadata": meta, "spec": own | beside | spec})


def _policy(name: str = "closed", namespace: str = "ns", **spec: Any) -> NetworkObject:
    meta = {"name": name, "namespace": namespace}
    return read_network_object("NetworkPolicy", {"metadata": meta, "spec": CLOSED | spec})


def _service(*ports: Any, **spec: Any) -> NetworkObject:
    whole = {"selector": {"app": "shop"}, "ports": list(ports)} | spec
    meta = {"name": "shop", "namespace": "ns"}
    return read_network_object("Service", {"metadata": meta, "spec": whole})


def _exposure(*known: NetworkObject, pods: tuple[Pod, ...] = (_pod(),)) -> Exposure:
    made = Exposure(lambda _: pods, lambda _: None)
    for kind in NETWORK_KINDS:
        made.listed(kind, [each for each in known if each.key.kind == kind], ())
    return made


def _reason(*known: NetworkObject, **members: Any) -> str:
    found = _exposure(*known, **members).condition(SERVER)
    assert found is None or (found.status, found.generation) == ("True", 2)
    return found.reason if found else ""


def _admitting(*rules: Any) -> NetworkObject:
    return _policy(ingress=list(rules))


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (_policy(), ""),
        (_policy(ingress=[]), ""),
        (
            _admitting(
                {"ports": [{"port": "mcp"}, {"port": 9103}, {"port": 1, "protocol": "UDP"}]}
            ),
            "",
        ),
        (_admitting({"ports": [{"port": "no-such"}]}), ""),
        (_admitting({}), "NetworkPolicyAdmitsMore"),
        (_admitting({"from": [{"podSelector": {}}]}), "NetworkPolicyAdmitsMore"),
        (_admitting({"ports": [{}]}), "NetworkPolicyAdmitsMore"),
        (_admitting({"ports": [{"port": "own"}]}), "NetworkPolicyAdmitsMore"),
        (_admitting({"ports": [{"port": 8091, "endPort": 8092}]}), "NetworkPolicyAdmitsMore"),
        (_policy(policyTypes=["Egress"]), "NoNetworkPolicy"),
        (_policy(podSelector={"matchLabels": {"app": "other"}}), "NoNetworkPolicy"),
        (_policy(namespace="other"), "NoNetworkPolicy"),
        (_policy(podSelector={}), ""),
    ],
)
def test_what_a_network_policy_leaves_open(policy: NetworkObject, reason: str) -> None:
    """Any port but the sidecar's, from wherever; a policy that is not for the pods closes none."""
    assert _reason(policy) == reason


@pytest.mark.parametrize(
    ("operator", "values", "is_chosen"),
    [
        ("In", ["a", "b"], True),
        ("In", ["b"], False),
        ("NotIn", ["b"], True),
        ("NotIn", ["a"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
        ("Gt", ["1"], False),
    ],
)
def test_pods_are_chosen_by_expressions(operator: str, values: list[str], is_chosen: bool) -> None:
    """As Kubernetes chooses them; what we do not know chooses none."""
    expression = {"key": "tier", "operator": operator, "values": values}
    policy = _policy(podSelector={"matchExpressions": [expression]})
    assert (_reason(policy) == "") is is_chosen


@pytest.mark.parametrize(
    ("service", "is_past"),
    [
        (_service({"port": 80, "targetPort": 8088}), True),
        (_service({"port": 80, "targetPort": "own"}), True),
        (_service({"port": 8088}), True),
        (_service({"port": 80, "targetPort": 8091}), False),
        (_service({"port": 80, "targetPort": "mcp"}), False),
        (_service({"port": 53, "protocol": "UDP"}), False),
        (_service({"port": 80}, selector={"app": "other"}), False),
        (_service({"port": 80}, selector=None), False),
        (_service({"port": 80}, type="ExternalName"), False),
    ],
)
def test_a_service_may_lead_past_it(service: NetworkObject, is_past: bool) -> None:
    """Which is told first, where no policy closes the port that it leads to."""
    assert _reason(service) == ("ServiceBypasses" if is_past else "NoNetworkPolicy")
    assert _reason(service, _policy()) == ""


def test_the_pods_decide() -> None:
    """On the node's network no policy holds; other ways of closing a port are declared."""
    assert _reason(_policy(), pods=(_pod(), _pod(hostNetwork=True))) == "HostNetwork"
    for way in ("loopback", "redirect"):
        declared = _pod(annotations={"sentinel.mcpruntime.org/own-port": way})
        assert _reason(pods=(declared,)) == ""
        assert _reason(pods=(declared, _pod())) == "NoNetworkPolicy"
    unknown = _pod(annotations={"sentinel.mcpruntime.org/own-port": "open"})
    assert _reason(pods=(unknown,)) == "NoNetworkPolicy"


def test_changes_are_followed() -> None:
    """One by one, and as a whole after a break."""
    told = list[str]()
    made = Exposure(lambda _: [_pod()], told.append)
    for kind in NETWORK_KINDS:
        made.listed(kind, (), ())
    closed = _policy()
    made.changed(Observed("1", closed.key, closed))
    assert made.condition(SERVER) is None
    made.changed(Observed("2", closed.key))
    assert made.condition(SERVER) is not None
    made.changed(Observed("3", closed.key, closed))
    made.listed("NetworkPolicy", (), (closed.key,))
    assert made.condition(SERVER) is not None
    assert told == ["", "", "ns", "ns", "ns", ""]


def test_what_is_not_known_stays_as_it_was_told() -> None:
    """Before the lists are there, and while no sidecar is connected."""
    before = Condition("Bypassable", "True", "NoNetworkPolicy", "…", 1)
    standing = replace(SERVER, conditions=(before,))
    assert _exposure(_policy(), pods=()).condition(standing) == before
    made = _exposure(_policy())
    assert made.condition(standing) is None
    made.forget()
    assert made.condition(standing) == before
    made.listed("Service", (), ())
    assert made.condition(standing) == before
    assert made.condition(SERVER) is None

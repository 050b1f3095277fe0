"""Who can reach whom by the NetworkPolicies: the paths of the design, and nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pytest

from tests.tools.kube_manifests import EXAMPLE, OVERLAYS, SIDECAR, Raw, named, rendered, workloads

HOME, SERVERS = "mcp-sentinel", "mcp-servers"
Path = tuple[str, str, int]  # from, to, port

# The way of a request and of its event, and what it needs: who is called, from where.
PATHS: set[Path] = {
    ("somewhere", "mcp-example-server", 8091),
    ("mcp-example-server", "mcp-sentinel-controller", 8086),
    ("mcp-example-server", "mcp-sentinel-ingest", 8081),
    ("somewhere", "mcp-sentinel-gateway", 8083),
    ("mcp-sentinel-gateway", "mcp-sentinel-ui", 8082),
    ("mcp-sentinel-gateway", "mcp-sentinel-ingest", 8081),
    ("mcp-sentinel-ui", "mcp-sentinel-api", 8080),
    ("mcp-sentinel-ingest", "kafka", 9092),
    ("mcp-sentinel-processor", "kafka", 9092),
    ("mcp-sentinel-api", "kafka", 9092),
    ("mcp-sentinel-controller", "kafka", 9092),
    ("kafka", "kafka", 9093),
    ("kafka", "kafka", 9094),
    ("mcp-sentinel-processor", "clickhouse", 8123),
    ("mcp-sentinel-api", "clickhouse", 8123),
    ("clickhouse-init", "clickhouse", 8123),
    # How they are, for `sentinel status` and the dashboard.
    ("mcp-sentinel-api", "mcp-sentinel-ingest", 9091),
    ("mcp-sentinel-api", "mcp-sentinel-processor", 9102),
    ("mcp-sentinel-api", "mcp-sentinel-api", 9090),
    ("mcp-sentinel-api", "mcp-sentinel-ui", 9104),
    ("mcp-sentinel-api", "mcp-sentinel-controller", 9096),
}
REPLICATION: set[Path] = {
    ("clickhouse", "clickhouse", 9000),
    ("clickhouse", "clickhouse", 9009),
    ("clickhouse", "clickhouse-keeper", 9181),
    ("clickhouse-keeper", "clickhouse-keeper", 9234),
}
# Beside that, all of ours ask for names, three ask the API server, and with the dashboard these
# ask who signs people in.
ASKING = {"mcp-sentinel-ingest", "mcp-sentinel-api", "mcp-sentinel-controller"}
NAMES, API_SERVER, HTTPS = 53, 6443, 443


@dataclass(frozen=True, slots=True)
class Pod:
    """One as policies see it."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    ports: frozenset[int] = frozenset()


DNS = Pod("dns", "kube-system", {"k8s-app": "kube-dns"}, frozenset({NAMES}))
SOMEWHERE = Pod(
    "somewhere", "elsewhere", {"app": "mcp-sentinel-ui"}, frozenset({80, HTTPS, API_SERVER})
)
SPACES = {
    name: {"kubernetes.io/metadata.name": name}
    for name in (HOME, SERVERS, DNS.namespace, SOMEWHERE.namespace)
}


def pods(folder: str) -> list[Pod]:
    """One of each workload, and of others."""
    found = {}
    for each in [*workloads(rendered(folder)), *workloads(rendered(EXAMPLE))]:
        ports = (port["containerPort"] for one in each.containers for port in one.get("ports", ()))
        name = each.labels["app"]
        found[name] = Pod(name, each.namespace, each.labels, frozenset(ports))
    return [*found.values(), DNS, SOMEWHERE]


def policies(folder: str) -> list[Raw]:
    return [
        policy
        for objects in (rendered(folder), rendered(EXAMPLE))
        for policy in named(objects, "NetworkPolicy").values()
    ]


def selects(selector: Raw, labels: Mapping[str, str]) -> bool:
    """As Kubernetes has it: an empty selector means all."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    for rule in selector.get("matchExpressions", ()):
        assert rule["operator"] == "In", "no other is read here"
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def is_peer(peer: Raw, pod: Pod, namespace: str) -> bool:
    """Whether one entry of `from` or `to` means the pod; without a namespace, the policy's own."""
    assert set(peer) <= {"podSelector", "namespaceSelector"}
    spaces = peer.get("namespaceSelector")
    if spaces is None and pod.namespace != namespace:
        return False
    if spaces is not None and not selects(spaces, SPACES[pod.namespace]):
        return False
    return selects(peer.get("podSelector", {}), pod.labels)


def lets(policy: Raw, side: str, peer: Pod, port: int) -> bool:
    """Whether a policy lets its pods receive from, or send to, another."""
    who = {"ingress": "from", "egress": "to"}[side]
    return any(
        (
            who not in rule
            or any(is_peer(p, peer, policy["metadata"]["namespace"]) for p in rule[who])
        )
        and ("ports" not in rule or port in {each["port"] for each in rule["ports"]})
        for rule in policy["spec"].get(side, ())
    )


def is_open(all_policies: Sequence[Raw], side: str, pod: Pod, peer: Pod, port: int) -> bool:
    """On one side of a path: no policy of that side means the pod, or one of them lets it."""
    mine = [
        each
        for each in all_policies
        if each["metadata"]["namespace"] == pod.namespace
        and side.capitalize() in each["spec"]["policyTypes"]
        and selects(each["spec"]["podSelector"], pod.labels)
    ]
    return not mine or any(lets(each, side, peer, port) for each in mine)


def open_paths(folder: str) -> Iterator[Path]:
    """All that policies let through, to ports that something listens on."""
    every, stated = pods(folder), policies(folder)
    for start in every:
        for end in every:
            for port in end.ports:
                if is_open(stated, "egress", start, end, port) and is_open(
                    stated, "ingress", end, start, port
                ):
                    yield start.name, end.name, port


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_named_paths_are_open_and_no_others(folder: str) -> None:
    """Of every pair of pods and every port; of others' pods, what they may reach here."""
    named_paths = PATHS | (REPLICATION if folder.endswith("production") else set())
    others = {DNS.name, SOMEWHERE.name}
    found = set(open_paths(folder))
    inside = {path for path in found if path[1] not in others}
    anybody = {(start, end, port) for start, end, port in named_paths if start == SOMEWHERE.name}
    doors = {(end, port) for _, end, port in anybody}
    # What is open to anybody is open to those of ours that may send there at all.
    assert {path for path in inside if path[1:] not in doors} == named_paths - anybody
    assert anybody <= inside
    senders = {path[0] for path in inside if path[1:] in doors}
    assert senders == {*others, "mcp-example-server"}


@pytest.mark.parametrize("folder", OVERLAYS)
@pytest.mark.parametrize("side", ["ingress", "egress"])
def test_each_side_alone_says_the_same(folder: str, side: str) -> None:
    """Between parts of the stack: neither is open where the other happens to be closed."""
    ours, stated = [each for each in pods(folder) if each.namespace == HOME], policies(folder)
    named_paths = PATHS | (REPLICATION if folder.endswith("production") else set())
    doors = {path[1:] for path in named_paths if path[0] == SOMEWHERE.name}
    found = {
        (start.name, end.name, port)
        for start in ours
        for end in ours
        for port in end.ports
        if is_open(stated, side, *((start, end) if side == "egress" else (end, start)), port)
    }
    names = {each.name for each in ours}
    assert {path for path in found if path[1:] not in doors} == {
        path for path in named_paths if path[0] in names
    }


@pytest.mark.parametrize("folder", OVERLAYS)
def test_what_is_outside_is_asked_by_few(folder: str) -> None:
    """Names by all; the API server, and who signs people in, by those that must."""
    found = set(open_paths(folder))
    ours = {each.name for each in pods(folder) if each.namespace == HOME}
    assert {path[0] for path in found if path[1] == DNS.name} >= ours
    outside = {(start, port) for start, end, port in found if end == SOMEWHERE.name}
    signing_in = {(each, HTTPS) for each in ASKING | {"mcp-sentinel-ui"}}
    asking = {(each, API_SERVER) for each in ASKING}
    assert {path for path in outside if path[0] in ours} == asking | signing_in


def test_a_sidecar_is_known_by_its_label() -> None:
    """A pod without it reaches neither the controller nor ingest, whatever else it is labelled."""
    stranger = Pod("stranger", SERVERS, {"app": "mcp-example-server"})
    governed = Pod("governed", "team-a", {"app": "any", SIDECAR: "enabled"})
    SPACES.setdefault("team-a", {"kubernetes.io/metadata.name": "team-a"})
    stated = policies(OVERLAYS[0])
    by_name = {each.name: each for each in pods(OVERLAYS[0])}
    for end, port in (("mcp-sentinel-controller", 8086), ("mcp-sentinel-ingest", 8081)):
        assert not is_open(stated, "ingress", by_name[end], stranger, port)
        assert is_open(stated, "ingress", by_name[end], governed, port)

"""What the overlays promise: in production each part more than once, and told of the others."""

import re

import pytest
import yaml
from kubernetes.utils.quantity import parse_quantity

from backend.adapters.clickhouse_cluster import SHARDED, SHARED
from backend.settings import Settings
from extauthz.core import config
from tests.tools.kube_binaries import ROOT
from tests.tools.kube_manifests import (
    OVERLAYS,
    Raw,
    Workload,
    environment,
    named,
    rendered,
    workload,
    workloads,
)

SINGLE, PRODUCTION = OVERLAYS
HOME = "mcp-sentinel"


def running(folder: str) -> list[Workload]:
    """What goes on: all but Jobs."""
    return [each for each in workloads(rendered(folder)) if each.raw["kind"] != "Job"]


def data(folder: str, name: str, key: str) -> Raw:
    """YAML in a ConfigMap."""
    found: Raw = yaml.safe_load(named(rendered(folder), "ConfigMap")[HOME, name]["data"][key])
    return found


def test_one_node_has_one_of_each() -> None:
    """And nothing that would keep it from being drained, or wait for another."""
    assert {each.replicas for each in running(SINGLE)} == {1}
    assert not named(rendered(SINGLE), "PodDisruptionBudget")
    settings = config.load(Settings, environment_of(SINGLE, "mcp-sentinel-ingest"))
    assert (settings.kafka_replication, settings.cluster) == (1, "")


def environment_of(folder: str, name: str) -> dict[str, str]:
    own = workload(folder, name)
    return environment(folder, own, own.containers[0])


def test_production_outlives_a_node() -> None:
    """Two of each at least, spread over zones and nodes, and one at a time taken away."""
    budgets = named(rendered(PRODUCTION), "PodDisruptionBudget")
    assert set(budgets) == {(each.namespace, each.name) for each in running(PRODUCTION)}
    for each in running(PRODUCTION):
        assert each.replicas >= 2
        spec = budgets[each.namespace, each.name]["spec"]
        assert (spec["maxUnavailable"], spec["selector"]) == (1, each.raw["spec"]["selector"])
        spread = each.pod["topologySpreadConstraints"]
        assert [one["topologyKey"] for one in spread] == [
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        ]
        for one in spread:
            assert one["labelSelector"]["matchLabels"].items() <= each.labels.items()
            assert one["matchLabelKeys"] == ["app"]
        keeps_data = each.raw["kind"] == "StatefulSet"
        assert spread[1]["whenUnsatisfiable"] == (
            "DoNotSchedule" if keeps_data else "ScheduleAnyway"
        )


@pytest.mark.parametrize("folder", OVERLAYS)
def test_no_two_processes_share_an_outbox(folder: str) -> None:
    """One that is claimed is one process's; of several each has its own, with its pod."""
    for name in ("mcp-sentinel-api", "mcp-sentinel-controller"):
        own = workload(folder, name)
        (outbox,) = (each for each in own.pod["volumes"] if each["name"] == "outbox")
        path = environment_of(folder, name)["CHANGE_OUTBOX"]
        (mount,) = (m for m in own.containers[0]["volumeMounts"] if m["name"] == "outbox")
        assert path.startswith(f"{mount['mountPath']}/")
        is_claimed = "persistentVolumeClaim" in outbox
        assert is_claimed == (own.replicas == 1)
        assert own.raw["spec"]["strategy"]["type"] == (
            "Recreate" if is_claimed else "RollingUpdate"
        )


@pytest.mark.parametrize("folder", OVERLAYS)
def test_kafka_knows_its_nodes(folder: str) -> None:
    """Each votes, by its own name; a record is with all but one before it counts."""
    kafka, told = workload(folder, "kafka"), environment_of(folder, "kafka")
    service = kafka.raw["spec"]["serviceName"]
    voters = [f"{n}@kafka-{n}.{service}:9093" for n in range(kafka.replicas)]
    assert told["VOTERS"].split(",") == voters
    assert (told["NODE_ID"], told["NODE"]) == ("1", f"pod-1.{service}")
    assert int(told["COPIES"]) == kafka.replicas
    assert int(told["COPIES_IN_SYNC"]) == max(1, kafka.replicas - 1)
    settings = config.load(Settings, environment_of(folder, "mcp-sentinel-ingest"))
    assert settings.kafka_replication == kafka.replicas


def test_clickhouse_knows_its_replicas() -> None:
    """As the migrations need it: the cluster that settings name, and the macros in their paths."""
    clickhouse, found = (
        workload(PRODUCTION, "clickhouse"),
        data(PRODUCTION, "clickhouse-cluster", "cluster.yaml"),
    )
    settings = config.load(Settings, environment_of(PRODUCTION, "mcp-sentinel-processor"))
    shard = found["remote_servers"][settings.cluster]["shard"]
    service = clickhouse.raw["spec"]["serviceName"]
    assert [each["host"] for each in shard["replica"]] == [
        f"clickhouse-{n}.{service}" for n in range(clickhouse.replicas)
    ]
    assert shard["internal_replication"] is True
    known = {"database", "table"}  # to ClickHouse itself
    assert set(found["macros"]) == set(re.findall(r"{(\w+)}", SHARDED + SHARED)) - known
    (told,) = ({each["name"] for each in one["env"]} for one in clickhouse.containers)
    assert (
        names_from_env(found) | names_from_env(data(PRODUCTION, "clickhouse", "users.yaml")) <= told
    )


def test_keeper_knows_its_servers() -> None:
    """Three that agree, each by its own name and number, and ClickHouse knows all."""
    keeper = workload(PRODUCTION, "clickhouse-keeper")
    found = data(PRODUCTION, "clickhouse-keeper", "keeper.yaml")["keeper_server"]
    first, service = keeper.raw["spec"]["ordinals"]["start"], keeper.raw["spec"]["serviceName"]
    hosts = {n: f"clickhouse-keeper-{n}.{service}" for n in range(first, first + keeper.replicas)}
    servers = found["raft_configuration"]["server"]
    assert {each["id"]: each["hostname"] for each in servers} == hosts
    assert len(hosts) == 3
    assert first > 0, "a server of the number 0 is none"
    zookeeper = data(PRODUCTION, "clickhouse-cluster", "cluster.yaml")["zookeeper"]["node"]
    assert [each["host"] for each in zookeeper] == list(hosts.values())
    assert {each["port"] for each in zookeeper} == {found["tcp_port"]}


def names_from_env(value: object) -> set[str]:
    """What a configuration of ClickHouse reads from its environment."""
    if isinstance(value, dict):
        own = {value["@from_env"]} if "@from_env" in value else set()
        return own.union(*(names_from_env(each) for each in value.values()))
    if isinstance(value, list):
        return set().union(*(names_from_env(each) for each in value))
    return set()


def test_what_cannot_be_changed_is_the_same() -> None:
    """Fields that the API server never lets change: a size grows with other commands."""
    for name in ("kafka", "clickhouse"):
        one, many = (workload(folder, name).raw["spec"] for folder in OVERLAYS)
        for field in ("serviceName", "podManagementPolicy", "selector"):
            assert one.get(field) == many.get(field)


def asked(folder: str) -> tuple[float, float]:
    """Cores and GiB of memory that what goes on asks of the nodes."""
    requests = [
        (each.replicas, one["resources"]["requests"])
        for each in running(folder)
        for one in each.pod["containers"]
    ]
    cores = sum(count * parse_quantity(asks["cpu"]) for count, asks in requests)
    memory = sum(count * parse_quantity(asks["memory"]) for count, asks in requests)
    return round(float(cores), 2), round(float(memory) / (1 << 30), 2)


def test_what_it_takes_is_told() -> None:
    """In the document, as whoever chooses an overlay wants to know."""
    document = (ROOT / "docs/kubernetes.md").read_text()
    (told,) = (line for line in document.splitlines() if line.startswith("| all of it asks for"))
    found = [float(number) for number in re.findall(r"([\d.]+) (?:cores|GiB)", told)]
    assert found == [*asked(SINGLE), *asked(PRODUCTION)]

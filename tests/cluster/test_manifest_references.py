"""Whatever a manifest names is there: keys, ports, labels, accounts, volumes, images."""

import re
import tomllib
from collections.abc import Iterator

import pytest

from backend.controller.config_maps import AUTHORITY
from tests.tools.kube_binaries import ROOT
from tests.tools.kube_manifests import (
    EXAMPLE,
    OVERLAYS,
    SIDECAR,
    Raw,
    Workload,
    named,
    rendered,
    workloads,
)

FOLDERS = (*OVERLAYS, EXAMPLE)
HOME, SECRET = "mcp-sentinel", "mcp-sentinel-secrets"
SIDECAR_PORT = 8091
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
# What their container files declare as volumes: a runtime mounts an empty one at each path where
# nothing else is mounted, over what lies below it.
DECLARED = {
    "apache/kafka": ("/etc/kafka/secrets", "/var/lib/kafka/data", "/mnt/shared/config"),
    "clickhouse/clickhouse-server": ("/var/lib/clickhouse",),
    "clickhouse/clickhouse-keeper": ("/var/lib/clickhouse-keeper", "/var/lib/clickhouse"),
}


def parts(folder: str) -> list[tuple[Workload, Raw]]:
    """Each container with its workload."""
    return [(each, one) for each in workloads(rendered(folder)) for one in each.containers]


def sources(container: Raw) -> Iterator[tuple[str, str, str]]:
    """Kind, name and key of what its environment comes from; no key for all of it."""
    for each in container.get("envFrom", ()):
        yield "ConfigMap", each["configMapRef"]["name"], ""
    for entry in container.get("env", ()):
        for kind, ref in entry.get("valueFrom", {}).items():
            if kind == "fieldRef":
                continue
            assert not ref.get("optional"), "a key that is not there must be noticed"
            yield (
                {"secretKeyRef": "Secret", "configMapKeyRef": "ConfigMap"}[kind],
                ref["name"],
                ref["key"],
            )


@pytest.mark.parametrize("folder", FOLDERS)
def test_environments_come_from_what_is_there(folder: str) -> None:
    """ConfigMaps with their keys, and the one Secret."""
    configs = named(rendered(folder), "ConfigMap")
    for workload, container in parts(folder):
        for kind, name, key in sources(container):
            if kind == "Secret":
                assert name == SECRET
                continue
            found = configs[workload.namespace, name]["data"]
            assert not key or key in found


def test_secrets_are_never_written() -> None:
    """The one Secret comes empty, in every overlay."""
    for folder in OVERLAYS:
        ((_, found),) = named(rendered(folder), "Secret").items()
        assert found["metadata"]["name"] == SECRET
        assert not {"data", "stringData"} & set(found)


def volume_sources(volume: Raw) -> Iterator[Raw]:
    yield volume
    yield from volume.get("projected", {}).get("sources", ())


@pytest.mark.parametrize("folder", FOLDERS)
def test_volumes_are_mounted_and_filled(folder: str) -> None:
    """Each mount has its volume, each volume a mount; files of ConfigMaps are there."""
    configs, claims = (named(rendered(folder), k) for k in ("ConfigMap", "PersistentVolumeClaim"))
    used = set()
    for workload in workloads(rendered(folder)):
        volumes = workload.pod.get("volumes", [])
        mounts = {m["name"] for each in workload.containers for m in each.get("volumeMounts", ())}
        assert mounts == {each["name"] for each in volumes} | set(workload.claims)
        for source in (one for each in volumes for one in volume_sources(each)):
            if claim := source.get("persistentVolumeClaim"):
                used.add((workload.namespace, claim["claimName"]))
            if (config := source.get("configMap")) and config["name"] != AUTHORITY:
                data = configs[workload.namespace, config["name"]]["data"]
                assert {each["key"] for each in config.get("items", ())} <= set(data)
    assert used == set(claims)


@pytest.mark.parametrize("folder", OVERLAYS)
def test_no_image_hides_what_is_mounted(folder: str) -> None:
    """A volume that an image declares is none below one of ours: data would end with the pod."""
    for _, container in parts(folder):
        mounts = {each["mountPath"] for each in container.get("volumeMounts", ())}
        for declared in DECLARED.get(container["image"].rpartition(":")[0], ()):
            assert declared in mounts or not any(declared.startswith(f"{m}/") for m in mounts)


def ports_of(workload: Workload) -> dict[str | int, int]:
    """Numbers of its containers' ports, by number and name; no name stands twice."""
    found: dict[str | int, int] = {}
    for port in (port for each in workload.containers for port in each.get("ports", ())):
        for name in filter(None, (port.get("name"), port["containerPort"])):
            assert name not in found, f"two ports `{name}` in {workload.name}"
            found[name] = port["containerPort"]
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_services_mean_one_workload_and_its_ports(folder: str) -> None:
    """The selector matches the pods of one workload, whose name it has, and its ports are open."""
    for (namespace, name), service in named(rendered(folder), "Service").items():
        selector = service["spec"]["selector"].items()
        (found,) = (
            each
            for each in workloads(rendered(folder))
            if each.namespace == namespace and selector <= each.labels.items()
        )
        assert name in {found.name, f"{found.name}-nodes"}
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports_of(found)
            assert ports_of(found)[port["targetPort"]] == port["port"] or SIDECAR in found.labels


def test_calls_reach_the_server_through_the_sidecar() -> None:
    """Behind the Service is Envoy, which nothing else in the pod is."""
    ((_, service),) = named(rendered(EXAMPLE), "Service").items()
    assert [port["targetPort"] for port in service["spec"]["ports"]] == [SIDECAR_PORT]
    (example,) = workloads(rendered(EXAMPLE))
    (envoy,) = (each for each in example.containers if each["name"] == "envoy")
    assert SIDECAR_PORT in {port["containerPort"] for port in envoy["ports"]}


@pytest.mark.parametrize("folder", FOLDERS)
def test_probes_ask_open_ports(folder: str) -> None:
    """Of their own container; every container that stays has all three, or says why not."""
    for workload, container in parts(folder):
        own = {v for port in container.get("ports", ()) for v in port.values()}
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            for how in ("httpGet", "tcpSocket"):
                if asked := container.get(kind, {}).get(how):
                    assert asked["port"] in own, (workload.name, kind)
        goes_on = container.get("ports") and container["name"] != "mcp-server"
        assert not goes_on or {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)


@pytest.mark.parametrize("folder", FOLDERS)
def test_selectors_match_their_own_pods(folder: str) -> None:
    """Of workloads and budgets; pods carry the label `app` by which logs are found."""
    for workload in workloads(rendered(folder)):
        if workload.raw["kind"] != "Job":
            selector = workload.raw["spec"]["selector"]["matchLabels"]
            assert selector == {"app": workload.name}
            assert selector.items() <= workload.labels.items()
        services = named(rendered(folder), "Service")
        if headless := workload.raw["spec"].get("serviceName"):
            assert services[workload.namespace, headless]["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_container_is_bounded(folder: str) -> None:
    """In memory, in what it may write, and in what its environment tells of other Services."""
    for workload, container in parts(folder):
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"]), workload.name
        assert "memory" in resources["limits"], workload.name
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert workload.pod["enableServiceLinks"] is False
        for volume in workload.pod.get("volumes", ()):
            assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}), volume["name"]


@pytest.mark.parametrize("folder", OVERLAYS)
def test_accounts_are_there(folder: str) -> None:
    """Who has no account of its own gets no token for the API server."""
    accounts = named(rendered(folder), "ServiceAccount")
    for workload in [*workloads(rendered(folder)), *workloads(rendered(EXAMPLE))]:
        if name := workload.pod.get("serviceAccountName"):
            assert (workload.namespace, name) in accounts
        else:
            assert workload.pod["automountServiceAccountToken"] is False
    used = {each.pod.get("serviceAccountName") for each in workloads(rendered(folder))}
    assert {name for namespace, name in accounts if namespace == HOME} <= used


def test_images_have_container_files() -> None:
    """Ours a target of k8s/images/Dockerfile each, of this version; no image is without use."""
    targets = re.findall(r'image\.title="([\w-]+)"', (ROOT / "k8s/images/Dockerfile").read_text())
    used = {one["image"] for folder in FOLDERS for _, one in parts(folder)}
    ours = {each for each in used if each.rpartition(":")[0] not in DECLARED}
    assert ours == {f"{target}:{VERSION}" for target in targets}
    assert f"clickhouse-init-{VERSION.replace('.', '-')}" in {
        each.name for each in workloads(rendered(OVERLAYS[0]))
    }


def test_what_others_make_is_of_the_tested_version() -> None:
    """The Kafka of the tests, and the version of ClickHouse whose engine they run."""
    used = {one["image"] for folder in FOLDERS for _, one in parts(folder)}
    pom = (ROOT / "tests/tools/kafka/pom.xml").read_text()
    kafka = re.search(r"<artifactId>kafka_\S+</artifactId>\s*<version>([\d.]+)</version>", pom)
    lock = (ROOT / "requirements.lock").read_text()
    engine = re.search(r"^chdb-core==(\d+\.\d+)", lock, re.MULTILINE)
    assert kafka
    assert engine
    versions = {"apache/kafka": kafka[1]} | {
        f"clickhouse/clickhouse-{each}": engine[1] for each in ("server", "keeper")
    }
    assert {f"{name}:{versions[name]}" for name in DECLARED} == {
        each for each in used if each.rpartition(":")[0] in DECLARED
    }

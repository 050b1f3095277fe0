"""What each component is told by its manifest: settings that it has, with values that it takes."""

from pathlib import Path

import pytest
import yaml

from backend.settings import Settings as BackendSettings
from backend.wiring import COMPONENTS, TARGETS
from extauthz.core import config
from tests.tools.kube_binaries import ROOT
from tests.tools.kube_manifests import (
    OVERLAYS,
    environment,
    named,
    rendered,
    workload,
    workloads,
)
from ui.settings import Settings as UiSettings

BACKEND = ("ingest", "processor", "api", "controller")
# Only there to be put into others, as Kubernetes has no other way.
PARTS = {"CLICKHOUSE_PASSWORD"}
SPARE_SECONDS = 5  # between the drain's end and SIGKILL


def names(kind: type) -> set[str]:
    return {name for row in config.table(kind).values() for name in (*row.names, *row.file_names)}


def backend_settings(folder: str, component: str) -> BackendSettings:
    own = workload(folder, f"mcp-sentinel-{component}")
    return config.load(BackendSettings, environment(folder, own, own.containers[0]))


@pytest.mark.parametrize("folder", OVERLAYS)
@pytest.mark.parametrize("component", [*BACKEND, "init"])
def test_the_backend_takes_what_it_is_told(folder: str, component: str) -> None:
    """Every name is one of its settings, every value is taken."""
    (own,) = (
        each
        for each in workloads(rendered(folder))
        if each.labels["app"] in {f"mcp-sentinel-{component}", f"clickhouse-{component}"}
    )
    environ = environment(folder, own, own.containers[0])
    assert set(environ) - PARTS <= names(BackendSettings)
    settings = config.load(BackendSettings, environ)
    assert settings.host == "0.0.0.0"
    assert "$(" not in "".join(environ.values())
    if component in {"processor", "api", "init"}:
        assert settings.store_url == (
            "clickhouse://sentinel:secret-CLICKHOUSE_PASSWORD@clickhouse:8123/mcp"
        )


@pytest.mark.parametrize("component", BACKEND)
def test_each_component_runs_as_itself(component: str) -> None:
    """Its target, and the metrics port that it listens on by default."""
    (container,) = workload(OVERLAYS[0], f"mcp-sentinel-{component}").containers
    assert container["args"] == ["--target", component]
    assert component in TARGETS
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["metrics"] == COMPONENTS[component].metrics_port
    settings = backend_settings(OVERLAYS[0], component)
    own = {"ingest": settings.ingest_port, "api": settings.api_port}
    stream = {"controller": settings.controller_port}
    assert ports.get("http") == own.get(component)
    assert ports.get("stream") == stream.get(component)


def test_each_has_the_keys_that_it_needs_and_no_others() -> None:
    """Ingest knows no key of the api, the controller none of the store, and so on."""
    given = {}
    for made in workloads(rendered(OVERLAYS[1])):
        entries = [entry for each in made.containers for entry in each.get("env", ())]
        refs = [entry.get("valueFrom", {}).get("secretKeyRef") for entry in entries]
        given[made.name] = {ref["key"] for ref in refs if ref}
    assert {name: keys for name, keys in given.items() if keys} == {
        "mcp-sentinel-ingest": {"INGEST_API_KEYS", "KAFKA_PASSWORD"},
        "mcp-sentinel-processor": {"KAFKA_PASSWORD", "CLICKHOUSE_PASSWORD"},
        "mcp-sentinel-api": {"API_KEYS", "ADMIN_API_KEYS", "KAFKA_PASSWORD", "CLICKHOUSE_PASSWORD"},
        "mcp-sentinel-controller": {"KAFKA_PASSWORD"},
        "mcp-sentinel-ui": {"UI_SESSION_KEYS"},
        "clickhouse-init-0-1-0": {"CLICKHOUSE_PASSWORD"},
        "clickhouse": {"CLICKHOUSE_PASSWORD", "CLICKHOUSE_NODE_PASSWORD"},
        "kafka": {"KAFKA_PASSWORD", "KAFKA_NODE_PASSWORD"},
    }


def test_the_dashboard_takes_what_it_is_told() -> None:
    """It finds the api, and its ports are the container's; sessions outlive it."""
    own = workload(OVERLAYS[1], "mcp-sentinel-ui")
    (container,) = own.containers
    environ = environment(OVERLAYS[1], own, container)
    assert set(environ) <= names(UiSettings)
    settings = config.load(UiSettings, environ | {"UI_SESSION_KEYS": "k" * 32})
    assert settings.host == "0.0.0.0"
    assert settings.api_upstream == "http://mcp-sentinel-api:8080"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": settings.port, "metrics": settings.metrics_port}
    assert settings.session_keys


@pytest.mark.parametrize("folder", OVERLAYS)
def test_each_has_the_time_to_end_well(folder: str) -> None:
    """What waits before SIGTERM, and the drain after it, fit into the pod's grace."""
    for each in workloads(rendered(folder)):
        component = each.name.removeprefix("mcp-sentinel-")
        is_ours = component in BACKEND
        drain = backend_settings(folder, component).drain_seconds if is_ours else 0.0
        assert each.longest_wait + drain + SPARE_SECONDS <= each.grace, each.name


def test_the_gateway_runs_the_gateway() -> None:
    """Its configuration is in the image, and names Services that are there."""
    (container,) = workload(OVERLAYS[0], "mcp-sentinel-gateway").containers
    (flag, path) = container["args"]
    copied = (ROOT / "k8s/images/Dockerfile").read_text()
    assert flag == "-c"
    assert any(
        words[0] == "COPY" and f"envoy/{Path(path).name}" in words and words[-1] == "/etc/envoy/"
        for words in map(str.split, copied.splitlines())
        if words
    )
    services = named(rendered(OVERLAYS[0]), "Service")
    told_to = yaml.safe_load((ROOT / f"envoy/{Path(path).name}").read_text())
    for cluster in told_to["static_resources"]["clusters"]:
        ((endpoint,),) = (each["lb_endpoints"] for each in cluster["load_assignment"]["endpoints"])
        place = endpoint["endpoint"]["address"]["socket_address"]
        ports = services["mcp-sentinel", place["address"]]["spec"]["ports"]
        assert place["port_value"] in {port["port"] for port in ports}

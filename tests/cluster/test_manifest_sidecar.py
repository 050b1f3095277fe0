"""The sidecar as its component puts it beside an MCP server."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from backend.adapters.kubernetes_network import pod_of, read_network_object
from backend.controller.callers import AUDIENCE
from backend.controller.exposure import Exposure
from backend.controller_settings import ControllerSettings
from backend.ports.control_plane import Standing
from backend.ports.network import NETWORK_KINDS
from backend.settings import Settings as BackendSettings
from extauthz.core import config
from extauthz.core.governance import Key
from extauthz.settings import Settings as PointSettings
from tests.tools.kube_binaries import ROOT
from tests.tools.kube_manifests import (
    EXAMPLE,
    OVERLAYS,
    VARIANTS,
    Raw,
    Workload,
    environment,
    named,
    rendered,
    variant_of,
    wait_of,
    workloads,
)

SPARE_SECONDS = 5  # between the drain's end and SIGKILL


def sidecar() -> tuple[Workload, Raw, Raw]:
    """The example, and of its containers the decision point and Envoy."""
    (example,) = workloads(rendered(EXAMPLE))
    by_name = {each["name"]: each for each in example.containers}
    return example, by_name["decision-point"], by_name["envoy"]


def point_settings() -> PointSettings:
    example, point, _ = sidecar()
    environ = environment(EXAMPLE, example, point)
    assert set(environ) <= {
        name for row in config.table(PointSettings).values() for name in row.names
    }
    return config.load(PointSettings, environ)


def mounted(container: Raw) -> Mapping[str, str]:
    """Volumes by where they are mounted."""
    return {each["mountPath"]: each["name"] for each in container["volumeMounts"]}


def test_the_decision_point_takes_what_it_is_told() -> None:
    """It follows the policy of the MCPServer that its pod's label names."""
    settings = point_settings()
    assert (settings.server_name, settings.server_namespace) == (
        "mcp-example-server",
        "mcp-servers",
    )
    assert named(rendered(EXAMPLE), "MCPServer").keys() == {("mcp-servers", settings.server_name)}
    assert settings.gateway_name == "pod-1"


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_decision_point_finds_controller_and_ingest(folder: str) -> None:
    """By Services of the stack, and the controller by a name in its own certificate."""
    settings, services = point_settings(), named(rendered(folder), "Service")
    name = f"mcp-sentinel-controller.{ControllerSettings().controller_namespace}"
    assert settings.policy_stream == f"{name}.svc:{ControllerSettings().controller_port}"
    assert settings.ingest_url == "http://mcp-sentinel-ingest.mcp-sentinel.svc:8081/events"
    for service, port in (("controller", 8086), ("ingest", 8081)):
        offered = services["mcp-sentinel", f"mcp-sentinel-{service}"]["spec"]["ports"]
        assert port in {each["port"] for each in offered}


def test_the_sidecar_has_its_files() -> None:
    """Tokens with their audiences, the authority, sockets in memory, the spool on a disk."""
    example, point, envoy = sidecar()
    settings, volumes = point_settings(), {each["name"]: each for each in example.pod["volumes"]}

    def volume(path: Path | None) -> Raw:
        assert path
        found: Raw = volumes[mounted(point)[str(path.parent)]]
        return found

    for path, audience in (
        (settings.policy_stream_token_file, AUDIENCE),
        (settings.ingest_token_file, BackendSettings().account_audience),
    ):
        (source,) = volume(path)["projected"]["sources"]
        assert source["serviceAccountToken"]["audience"] == audience
        assert path
        assert source["serviceAccountToken"]["path"] == path.name
    assert "configMap" in volume(settings.policy_stream_ca_file)
    socket = Path(settings.check_address.removeprefix(config.UNIX))
    assert volume(socket)["emptyDir"]["medium"] == "Memory"
    assert "medium" not in volumes[mounted(point)[str(settings.spool_dir)]]["emptyDir"]
    assert mounted(envoy).items() <= mounted(point).items()


def test_envoy_finds_the_same_files() -> None:
    """Its sockets and its log are in the volumes that it shares with the decision point."""
    _, _, envoy = sidecar()
    told_files = yaml.safe_load((ROOT / "envoy/sidecar.yaml").read_text())
    paths = {path for path in texts(told_files) if path.startswith(("/var/run/", "/var/spool/"))}
    settings = point_settings()
    assert settings.check_address.removeprefix(config.UNIX) in paths
    assert {str(Path(path).parent) for path in paths} == set(mounted(envoy))


def texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


def test_the_server_sees_none_of_it() -> None:
    """No socket, token or spool is mounted in the MCP server's own container."""
    (example,) = workloads(rendered(EXAMPLE))
    (server,) = example.pod["containers"]
    assert not server.get("volumeMounts")
    assert {each["name"] for each in example.containers if each.get("restartPolicy")} == {
        "decision-point",
        "envoy",
    }


def test_the_last_call_is_told_of() -> None:
    """The server ends first, then Envoy, which tells of its last calls, then who hears that."""
    example, point, envoy = sidecar()
    (server,) = example.pod["containers"]
    assert wait_of(server) < wait_of(envoy)
    assert example.pod["initContainers"] == [point, envoy]  # they end in the opposite order
    assert all(each["restartPolicy"] == "Always" for each in (point, envoy))
    assert wait_of(envoy) + point_settings().drain_seconds + SPARE_SECONDS <= example.grace


def test_loopback_keeps_the_server_to_its_pod(tmp_path: Path) -> None:
    """It listens where Envoy finds it, and nobody is asked to reach it from elsewhere."""
    (example,) = workloads(variant_of(tmp_path / "mine", "loopback"))
    (server,) = example.pod["containers"]
    assert environment(EXAMPLE, example, server)["HOST"] == "127.0.0.1"
    assert server["args"][:2] == ["--host", "$(HOST)"]
    assert not [name for name in server if name.endswith("Probe")]
    assert server["lifecycle"] == sidecar()[0].pod["containers"][0]["lifecycle"]


def test_redirection_leads_to_the_sidecar(tmp_path: Path) -> None:
    """From the port that the server has to the one that Envoy has; policies let both through."""
    objects = variant_of(tmp_path / "mine", "redirect")
    (example,) = workloads(objects)
    (server,) = example.pod["containers"]
    _, _, envoy = sidecar()
    ports = [each["ports"][0]["containerPort"] for each in (server, envoy)]
    (redirect,) = (each for each in example.containers if each["name"] == "redirect")
    assert f"tcp dport {ports[0]} redirect to :{ports[1]}" in redirect["args"][0]
    ((_, policy),) = named(objects, "NetworkPolicy").items()
    (rule,) = policy["spec"]["ingress"]
    assert {each["port"] for each in rule["ports"]} == set(ports)


def judged(objects: Sequence[Raw]) -> str:
    """What the controller says of who gets past the sidecar: the reason; empty for nobody."""
    (example,) = workloads(objects)
    pod = pod_of({"metadata": example.raw["spec"]["template"]["metadata"], "spec": example.pod})
    exposure = Exposure(lambda _: [pod], lambda _: None)
    for kind in NETWORK_KINDS:
        found = named(objects, kind).values()
        exposure.listed(kind, [read_network_object(kind, each) for each in found], ())
    condition = exposure.condition(
        Standing(Key("MCPServer", example.namespace, example.labels["app"]), "uid", 1, None)
    )
    return condition.reason if condition else ""


def test_nobody_gets_past_the_sidecar(tmp_path: Path) -> None:
    """As the controller judges it, in every variant; and it does tell of what would be open."""
    assert judged(rendered(EXAMPLE)) == ""
    for variant in VARIANTS:
        assert judged(variant_of(tmp_path / variant, variant)) == ""
    without = [each for each in rendered(EXAMPLE) if each["kind"] != "NetworkPolicy"]
    assert judged(without) == "NoNetworkPolicy"

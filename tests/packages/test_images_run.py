"""Each component started from the files of its image, as its manifest says, found ready, ended.

What a pod is told stays as the manifest has it, but for where others are: the test's Kafka (which
asks for no password), ClickHouse's HTTP path over chDB, and a real API server.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tools.clickhouse_endpoint import ClickHouseEndpoint
from tests.tools.image_files import Builder, Image
from tests.tools.kafka_broker import KafkaBroker
from tests.tools.kube_cluster import KubeCluster, governed_cluster
from tests.tools.kube_manifests import EXAMPLE, OVERLAYS, environment, rendered, workload, workloads
from tests.tools.ports import free_ports
from tests.tools.stack_part import answers
from tests.tools.waiting import SECONDS, eventually

SINGLE_NODE = OVERLAYS[0]
# Of the test's broker; the manifest's own is held to its passwords in tests/cluster.
WITHOUT_PASSWORD = {"KAFKA_SECURITY_PROTOCOL": "", "KAFKA_SASL_MECHANISM": ""} | {
    "KAFKA_SASL_USERNAME": "",
    "KAFKA_SASL_PASSWORD": "",
}


@dataclass(frozen=True)
class World:
    """What the components meet."""

    kafka: KafkaBroker
    store: ClickHouseEndpoint
    cluster: KubeCluster

    def places(self, folder: Path) -> dict[str, str]:
        """Settings of where it is, for components of the backend."""
        return {
            "KAFKA_BROKERS": self.kafka.address,
            **WITHOUT_PASSWORD,
            "STORE_URL": self.store.url,
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "CHANGE_OUTBOX": str(folder / "outbox.db"),
            "CONTROLLER_NAMESPACE": "default",
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    kafka, store = KafkaBroker(folder / "kafka"), ClickHouseEndpoint(folder / "store")
    with governed_cluster(folder / "cluster") as cluster:
        try:
            kafka.start()
            store.start()
            yield World(kafka, store, cluster)
        finally:
            if store.is_running:
                store.kill()
            kafka.kill()


@contextmanager
def running(
    command: list[str], environ: Mapping[str, str], folder: Path, ends: int = 0
) -> Iterator[None]:
    """A container's process, which ends well on SIGTERM; what it says lies in the folder.

    Args:
        ends: its exit code then.
    """
    log = folder / "container.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=dict(environ), stdout=out, stderr=out)
    try:
        yield
        assert process.poll() is None, log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == ends, log.read_text()
    finally:
        process.kill()
        process.wait()


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS):
            return True
    except OSError:
        return False


def backend(builder: Builder, component: str, changed: Mapping[str, str]) -> tuple[Image, dict]:
    own = workload(SINGLE_NODE, f"mcp-sentinel-{component}")
    told = environment(SINGLE_NODE, own, own.containers[0]) | dict(changed)
    named = {name: value for name, value in told.items() if name != "CLICKHOUSE_PASSWORD"}
    return builder.image("backend"), named


@pytest.mark.parametrize("component", ["ingest", "processor", "api", "controller"])
def test_a_component_of_the_backend(
    builder: Builder, world: World, component: str, tmp_path: Path
) -> None:
    """By its manifest's arguments and settings; ready where its manifest asks."""
    port, metrics, stream = free_ports(3)
    places = world.places(tmp_path) | {"METRICS_PORT": str(metrics)}
    places |= {"PORT": str(port), "CONTROLLER_PORT": str(stream)}
    image, environ = backend(builder, component, places)
    own = workload(SINGLE_NODE, f"mcp-sentinel-{component}").containers[0]
    asked = own["readinessProbe"]["httpGet"]
    at = port if asked["port"] == "http" else metrics
    with running(image.command(*own["args"]), environ, tmp_path):
        url = f"http://127.0.0.1:{at}{asked['path']}"
        eventually(lambda: answers(url), f"{component} is ready")


def test_migrations_run_before_the_processor(
    builder: Builder, world: World, tmp_path: Path
) -> None:
    """The job's own command, which ends by itself."""
    (job,) = (each for each in workloads(rendered(SINGLE_NODE)) if "init" in each.name)
    (container,) = job.containers
    image = builder.image("backend")
    told = environment(SINGLE_NODE, job, container) | {"STORE_URL": world.store.url}
    command = [
        f"{image.root}{word}" if word.startswith("/") else word for word in container["command"]
    ]
    done = subprocess.run(
        [*command, *container.get("args", ())],
        cwd=tmp_path,
        env=told,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard(builder: Builder, world: World, tmp_path: Path) -> None:
    """Behind an api that is started from its image, too."""
    port, metrics, ui, ui_metrics = free_ports(4)
    places = world.places(tmp_path) | {"METRICS_PORT": str(metrics), "PORT": str(port)}
    image, environ = backend(builder, "api", places)
    own = workload(SINGLE_NODE, "mcp-sentinel-ui")
    told = environment(SINGLE_NODE, own, own.containers[0]) | {
        "UI_SESSION_KEYS": "k" * 32,
        "API_UPSTREAM": f"http://127.0.0.1:{port}",
        "PORT": str(ui),
        "METRICS_PORT": str(ui_metrics),
    }
    (tmp_path / "ui").mkdir()
    with running(image.command("--target", "api"), environ, tmp_path):
        eventually(lambda: answers(f"http://127.0.0.1:{port}/ready"), "the api is ready")
        with running(builder.image("ui").command(), told, tmp_path / "ui"):
            eventually(lambda: answers(f"http://127.0.0.1:{ui}/ready"), "the dashboard is ready")
            assert answers(f"http://127.0.0.1:{ui}/login")
            assert answers(f"http://127.0.0.1:{ui}/static/style.css")
            assert answers(f"http://127.0.0.1:{ui}/static/vendor/htmx.min.js")


def test_the_decision_point(builder: Builder, tmp_path: Path) -> None:
    """Without its controller: it lives, and says that it has no policy yet."""
    (own,) = workloads(rendered(EXAMPLE))
    point = own.pod["initContainers"][0]
    [metrics] = free_ports(1)
    for name in ("token", "ca.crt"):
        (tmp_path / name).write_text("x\n")
    told = environment(EXAMPLE, own, point) | {
        "CHECK_ADDRESS": "unix:check.sock",
        "SPOOL_DIR": str(tmp_path / "spool"),
        "METRICS_PORT": str(metrics),
        "POLICY_STREAM": "127.0.0.1:1",
        "POLICY_STREAM_TOKEN_FILE": str(tmp_path / "token"),
        "POLICY_STREAM_CA_FILE": str(tmp_path / "ca.crt"),
        "MCP_SENTINEL_INGEST_URL": "http://127.0.0.1:1/events",
        "MCP_SENTINEL_INGEST_TOKEN_FILE": str(tmp_path / "token"),
    }
    with running(builder.image("sidecar").command(), told, tmp_path):
        eventually(lambda: answers(f"http://127.0.0.1:{metrics}/live"), "it lives")
        assert not answers(f"http://127.0.0.1:{metrics}/ready")
        eventually((tmp_path / "check.sock").is_socket, "Envoy can ask it")


def test_the_reference_server(builder: Builder, tmp_path: Path) -> None:
    [port] = free_ports(1)
    command = builder.image("reference-server").command("--host", "127.0.0.1", "--port", str(port))
    # Its web server drains, and then ends by the signal.
    with running(command, {"PATH": os.defpath}, tmp_path, ends=-signal.SIGTERM):
        eventually(lambda: accepts(port), "it serves")

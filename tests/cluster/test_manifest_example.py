"""The example as its manifests have it: governed by a real controller, called through Envoy."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend.controller.config_maps import AUTHORITY, AUTHORITY_MEMBER
from tests.tools.controller_process import running_controller
from tests.tools.envoy_process import running_sidecar
from tests.tools.kube_binaries import ROOT
from tests.tools.kube_cluster import KubeCluster, governed_cluster
from tests.tools.kube_manifests import EXAMPLE, K8S, Workload, environment, rendered, workloads
from tests.tools.kube_rights import install
from tests.tools.point_process import RunningPoint, running_point
from tests.tools.ports import free_port
from tests.tools.waiting import eventually

HOME, POD = "mcp-sentinel", "pod-1"  # the pod's name in `environment`
DENIED = 4  # what `sentinel call` ends with


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeCluster]:
    """With the example applied, and a pod of its Deployment as a node would have it."""
    with governed_cluster(tmp_path_factory.mktemp("example") / "cluster") as cluster:
        install(cluster)
        done = cluster.kubectl("apply", "--kustomize", str(K8S / EXAMPLE))
        assert done.returncode == 0, done.stderr
        own = example()
        meta = {"name": POD, "namespace": own.namespace, "labels": dict(own.labels)}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": own.pod}
        done = cluster.kubectl("create", "--filename", "-", text=json.dumps(pod))
        assert done.returncode == 0, done.stderr
        yield cluster


def example() -> Workload:
    (found,) = workloads(rendered(EXAMPLE))
    return found


def mounted(cluster: KubeCluster, folder: Path) -> dict[str, str]:
    """Settings of the files that the decision point's volumes hold, made as a node makes them."""
    own, made = example(), {}
    point = own.pod["initContainers"][0]
    told = environment(EXAMPLE, own, point)
    volumes = {each["name"]: each for each in own.pod["volumes"]}
    at = {each["mountPath"]: volumes[each["name"]] for each in point["volumeMounts"]}
    for setting in ("POLICY_STREAM_TOKEN_FILE", "MCP_SENTINEL_INGEST_TOKEN_FILE"):
        volume = at[str(Path(told[setting]).parent)]
        audience = volume["projected"]["sources"][0]["serviceAccountToken"]["audience"]
        words = ("create", "token", own.pod["serviceAccountName"], "--namespace", own.namespace)
        bound = ("--bound-object-kind=Pod", f"--bound-object-name={POD}")
        done = cluster.kubectl(*words, f"--audience={audience}", *bound)
        assert done.returncode == 0, done.stderr
        made[setting] = str(folder / audience)
        Path(made[setting]).write_text(done.stdout.strip())
    name = at[str(Path(told["POLICY_STREAM_CA_FILE"]).parent)]["configMap"]["name"]
    assert name == AUTHORITY
    words = ("get", "configmap", name, "--namespace", own.namespace)
    path = ("--output", "jsonpath={.data." + AUTHORITY_MEMBER.replace(".", r"\.") + "}")
    eventually(lambda: cluster.kubectl(*words, *path).stdout, "the authority is published")
    authority = folder / AUTHORITY_MEMBER
    authority.write_text(cluster.kubectl(*words, *path).stdout)
    return told | made | {"POLICY_STREAM_CA_FILE": str(authority)}


@contextmanager
def running_server() -> Iterator[str]:
    """The example's MCP server, by the arguments of its container but for address and port."""
    (server,) = example().pod["containers"]
    words = [word.replace("$(HOST)", "127.0.0.1") for word in server["args"]]
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "backend.demo", *words, "--port", str(port)], cwd=ROOT
    )
    try:
        eventually(lambda: listens(port), "the MCP server listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def governed(cluster: KubeCluster, folder: Path) -> Iterator[tuple[str, RunningPoint]]:
    """Where the example is called, and its decision point; the controller by its own account."""
    account = cluster.kubeconfig_of(HOME, "mcp-sentinel-controller")
    with (
        running_controller(account, HOME, "one", folder) as controller,
        running_server() as server,
        running_sidecar(server) as envoy,
    ):
        eventually(controller.leads, "the controller leads")
        here = {
            "ACCESS_DIR": "",
            "POLICY_STREAM": f"127.0.0.1:{controller.port}",
            "SPOOL_DIR": str(folder / "spool"),
            "CHECK_ADDRESS": f"unix:{envoy.check_socket}",
            "METRICS_PORT": "0",
        }
        told = mounted(cluster, folder)
        told.pop("MCP_SENTINEL_INGEST_URL")  # to one that keeps what it is sent
        with running_point(envoy.folder, "", **told | here) as point:
            eventually(lambda: point.ask("/ready")[0] == 200, "the decision point is ready")
            yield envoy.url, point


def call(url: str, tool: str, arguments: str, *caller: str) -> int:
    """What `sentinel call` ends with."""
    words = ["call", tool, "--arguments", arguments, "--url", f"{url}/mcp", *caller]
    done = subprocess.run(
        [sys.executable, "-m", "backend.cli", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, DENIED}, done.stdout + done.stderr
    return done.returncode


def test_the_example_is_governed(installed: KubeCluster, tmp_path: Path) -> None:
    """What its grants allow is done, what they do not is denied, and each call is an event."""
    with governed(installed, tmp_path) as (url, point):
        alice = ("--human", "alice@example.com", "--agent", "finance-agent")
        session = ("--session", "example-alice-reviews")
        refund = ("refund_invoice", '{"number": "INV-1001"}')
        assert call(url, "list_invoices", "{}", "--agent", "ops-agent") == 0
        assert call(url, *refund, "--agent", "ops-agent") == DENIED
        assert call(url, *refund, *alice) == 0
        assert call(url, *refund, *alice, *session) == DENIED
        reasons = ["allowed", "allowed", "tool_not_granted", "trust_too_low"]

        def told() -> list[str]:  # one that is allowed waits for its outcome
            return sorted(each["reason"] for each in point.calls() if each.get("tool_name"))

        eventually(lambda: told() == reasons, "each call is told of")
        assert {(each["namespace"], each["server"], each["gateway"]) for each in point.calls()} == {
            ("mcp-servers", "mcp-example-server", POD)
        }

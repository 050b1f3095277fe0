"""The controller as a process, with the decision point's own stream source as its sidecar."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.tools.kube_cluster import ROOT, KubeCluster, governed_cluster
from tests.tools.kube_objects import Served
from tests.tools.ports import free_ports
from tests.tools.waiting import eventually, soon
from tests.unit.extauthz.core.objects import grant, server
from tests.unit.extauthz.sources.stream_world import World

HOME = "mcp-sentinel"
AUDIENCE = "mcp-sentinel-controller"
STOP_SECONDS = 60.0
DENIED, ALLOWED = "deny no_matching_grant", "allow allowed"


class Process:
    """`python -m backend --target controller`. Attributes: port: of its stream."""

    def __init__(self, kubeconfig: Path, namespace: str, name: str, folder: Path) -> None:
        self.port, metrics = free_ports(2)
        self._metrics = f"http://127.0.0.1:{metrics}"
        self.log = folder / f"{name}.db"
        environ = {
            "KUBECONFIG": str(kubeconfig),
            "ACCESS_URL": "kubernetes://",
            "EVENT_LOG_URL": f"sqlite://{self.log}",
            "CONTROLLER_NAMESPACE": namespace,
            "CONTROLLER_NAME": name,
            "CONTROLLER_DNS_NAMES": "127.0.0.1",
            "CONTROLLER_PORT": str(self.port),
            "CONTROLLER_LEASE_SECONDS": "2",
            "METRICS_PORT": str(metrics),
        }
        self._said = folder / f"{name}.log"
        with self._said.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "backend", "--target", "controller"],
                env=os.environ | environ,
                cwd=ROOT,
                stdout=out,
                stderr=out,
            )

    def said(self) -> str:
        """Its log."""
        return self._said.read_text()

    def metrics(self) -> str:
        """Empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"{self._metrics}/metrics", timeout=5) as answer:
                return str(answer.read(), "utf-8")
        except OSError:
            return ""

    def is_ready(self) -> bool:
        """Whether `/ready` says so."""
        try:
            with urllib.request.urlopen(f"{self._metrics}/ready", timeout=5):
                return True
        except (OSError, urllib.error.HTTPError):
            return False

    def leads(self) -> bool:
        return self.is_ready() and "controller_leads 1.0" in self.metrics()

    def changes(self) -> list[dict[str, Any]]:
        """The `governance.change` events that it has recorded."""
        with sqlite3.connect(self.log) as connection:
            rows = connection.execute("SELECT value FROM records ORDER BY offset").fetchall()
        return [json.loads(value)["payload"] for (value,) in rows]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def end(self) -> int:
        """Its exit code after SIGTERM; 0 where it had ended by itself."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_SECONDS)


@contextmanager
def _process(
    cluster: KubeCluster, namespace: str, name: str, folder: Path, account: Path | None = None
) -> Iterator[Process]:
    made = Process(account or cluster.kubeconfig, namespace, name, folder)
    try:
        yield made
    finally:
        made.kill()


def _sidecar(cluster: KubeCluster, namespace: str, folder: Path) -> dict[str, Any]:
    """What a pod of the server mounts: the token bound to it, and the controller's authority."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "demo-1", "namespace": namespace, "labels": {"app": "demo"}},
        "spec": {"serviceAccountName": "any", "containers": [{"name": "c", "image": "none"}]},
    }
    cluster.kubectl("create", "serviceaccount", "any", "--namespace", namespace)
    done = cluster.kubectl("create", "--filename", "-", text=json.dumps(pod))
    assert done.returncode == 0, done.stderr
    words = ("create", "token", "any", "--namespace", namespace, f"--audience={AUDIENCE}")
    bound = ("--bound-object-kind=Pod", "--bound-object-name=demo-1")
    (folder / "token").write_text(cluster.kubectl(*words, *bound).stdout.strip())
    wanted = ("get", "configmap", "mcp-sentinel-controller-ca", "--namespace", namespace)
    path = ("--output", r"jsonpath={.data.ca\.crt}")
    eventually(lambda: cluster.kubectl(*wanted, *path).stdout, "the authority is published")
    (folder / "ca.crt").write_text(cluster.kubectl(*wanted, *path).stdout)
    return {"ca_file": folder / "ca.crt", "token_file": folder / "token", "namespace": namespace}


def _grant(namespace: str, name: str = "reader", **spec: Any) -> Any:
    place = {"name": "demo", "namespace": namespace}
    return grant(name, namespace, serverRef=place, subject={"agentID": "ops"}, **spec)


async def test_a_revocation_reaches_the_sidecar(
    cluster: KubeCluster, served: Served, namespace: str, tmp_path: Path
) -> None:
    """A grant applied by kubectl opens, disabled it closes, and both are in the history."""
    served.create(server("demo", tools=[{"name": "echo"}]), namespace)
    with _process(cluster, namespace, "one", tmp_path) as process:
        eventually(process.leads, "it leads")
        told = _sidecar(cluster, namespace, tmp_path)
        async with World(process.port, tmp_path, **told).running() as world:
            await world.decides(DENIED)
            made = json.dumps(_grant(namespace))
            done = cluster.kubectl("apply", "--filename", "-", text=made)
            assert done.returncode == 0, done.stderr
            await world.decides(ALLOWED)
            patch = ("--type=merge", "--patch", '{"spec": {"disabled": true}}')
            cluster.kubectl("patch", "mcpg", "reader", "--namespace", namespace, *patch)
            await world.decides("deny grant_disabled")
            cluster.kubectl("delete", "mcpg", "reader", "--namespace", namespace)
            await world.decides(DENIED)
            await soon(lambda: "controller_sidecars 1.0" in process.metrics(), "it is counted")
        await soon(lambda: len(_of(process, namespace)) == 3, "all is recorded")
        changes = _of(process, namespace)
        assert [each["action"] for each in changes] == ["created", "changed", "deleted"]
        assert changes[0]["actor"] == "kubectl-client-side-apply"
        assert changes[1]["before"]["spec"].get("disabled") in {None, False}
        assert changes[1]["after"]["spec"]["disabled"] is True
        assert process.end() == 0


async def test_a_killed_leader_is_replaced(
    cluster: KubeCluster, served: Served, namespace: str, tmp_path: Path
) -> None:
    """The standby leads after the lease's time, and sidecars that come are not sent all again."""
    served.create(server("demo", tools=[{"name": "echo"}]), namespace)
    with (
        _process(cluster, namespace, "one", tmp_path) as first,
        _process(cluster, namespace, "two", tmp_path) as second,
    ):
        eventually(lambda: first.leads() or second.leads(), "one of them leads")
        eventually(lambda: first.is_ready() and second.is_ready(), "both know the objects")
        leader, standby = (first, second) if first.leads() else (second, first)
        assert not standby.leads()
        told = _sidecar(cluster, namespace, tmp_path)
        async with World(leader.port, tmp_path, **told).running() as world:
            await world.decides(DENIED)
        leader.kill()
        served.create(_grant(namespace), namespace)
        eventually(standby.leads, "the standby leads")
        async with World(standby.port, tmp_path, **told).running() as world:
            await world.decides(ALLOWED)
        assert 'updates_total{kind="full"}' not in standby.metrics()


async def test_an_api_server_that_is_away(tmp_path: Path) -> None:
    """Sidecars go on meanwhile; what changed is with them afterwards. By its own account alone."""
    with governed_cluster(tmp_path / "cluster") as cluster:
        served, namespace = Served(cluster), "default"
        cluster.kubectl("apply", "--filename", str(ROOT / "k8s/base/00-namespace.yaml"))
        done = cluster.kubectl("apply", "--filename", str(ROOT / "k8s/base/accounts.yaml"))
        assert done.returncode == 0, done.stderr
        account = cluster.kubeconfig_of(HOME, "mcp-sentinel-controller")
        served.create(server("demo", tools=[{"name": "echo"}]), namespace)
        served.create(_grant(namespace), namespace)
        with _process(cluster, HOME, "one", tmp_path, account) as process:
            eventually(process.leads, "it leads")
            told = _sidecar(cluster, namespace, tmp_path)
            async with World(process.port, tmp_path, **told).running() as world:
                await world.decides(ALLOWED)
                value = _grant(namespace)
                await soon(lambda: "Acknowledged" in json.dumps(served.get(value)), "it is shown")
                assert "refuses" not in process.said()
                cluster.kill("kube-apiserver")
                await soon(lambda: not process.is_ready(), "it notices")
                assert world.decide() == ALLOWED
                starting = threading.Thread(target=cluster.start)
                starting.start()
                await soon(lambda: not starting.is_alive(), "the API server is back")
                eventually(process.is_ready, "it follows again")
                cluster.kubectl("delete", "mcpg", "reader", "--namespace", namespace)
                await world.decides(DENIED)


def _of(process: Process, namespace: str) -> list[dict[str, Any]]:
    """Changes of the grant."""
    return [
        each
        for each in process.changes()
        if (each["namespace"], each["kind"]) == (namespace, "MCPAccessGrant")
    ]

"""Whether a server can be called past its sidecar, as its status says."""

import asyncio
import json
from asyncio import to_thread
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc

from tests.tools.controller_process import running_controller
from tests.tools.kube_cluster import KubeCluster
from tests.tools.kube_objects import Served
from tests.tools.kube_rights import install
from tests.tools.kube_sidecar import mounted
from tests.tools.policy_follower import PolicyFollower
from tests.tools.waiting import eventually, soon
from tests.unit.extauthz.core.objects import server

HOME, CONTROLLER = "mcp-sentinel", "mcp-sentinel-controller"


class Place:
    """A namespace with the server `demo`."""

    def __init__(self, cluster: KubeCluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace

    def reason(self) -> str:
        """Of its condition; empty where it has none."""
        path = '{.status.conditions[?(@.type=="Bypassable")].reason}'
        words = ("get", "mcps", "demo", "--namespace", self._namespace)
        return self._cluster.kubectl(*words, "--output", f"jsonpath={path}").stdout

    def has(self, kind: str, api: str, spec: Any) -> None:
        meta = {"name": "demo", "namespace": self._namespace}
        made = {"apiVersion": api, "kind": kind, "metadata": meta, "spec": spec}
        done = self._cluster.kubectl("apply", "--filename", "-", text=json.dumps(made))
        assert done.returncode == 0, done.stderr

    def lacks(self, kind: str) -> None:
        words = ("delete", kind, "demo", "--namespace", self._namespace)
        assert self._cluster.kubectl(*words).returncode == 0

    def tells(self, reason: str) -> None:
        eventually(lambda: self.reason() == reason, f"it tells `{reason}`")

    def is_closed_and_opened(self) -> None:
        """By what people would apply."""
        self.tells("NoNetworkPolicy")
        ports = [{"port": 80, "targetPort": 8088}]
        self.has("Service", "v1", {"selector": {"app": "demo"}, "ports": ports})
        self.tells("ServiceBypasses")
        closed = {"podSelector": {}, "ingress": [{"ports": [{"port": 8091}]}]}
        self.has("NetworkPolicy", "networking.k8s.io/v1", closed)
        self.tells("")
        ports = [{"port": 8091}, {"port": 8000, "endPort": 8100}]
        opened = {"podSelector": {}, "ingress": [{"ports": ports}]}
        self.has("NetworkPolicy", "networking.k8s.io/v1", opened)
        self.lacks("service")
        self.tells("NetworkPolicyAdmitsMore")
        self.lacks("networkpolicy")
        self.tells("NoNetworkPolicy")


async def test_what_closes_a_servers_own_port(
    cluster: KubeCluster, served: Served, namespace: str, tmp_path: Path
) -> None:
    """A NetworkPolicy, seen at once, by the controller's own account; told without pods, too."""
    await to_thread(install, cluster)
    await to_thread(cluster.kubectl, "delete", "leases", "--all", "--namespace", HOME)
    served.create(server("demo", tools=[{"name": "echo"}]), namespace)
    place = Place(cluster, namespace)
    account = await to_thread(cluster.kubeconfig_of, HOME, CONTROLLER)
    with running_controller(account, HOME, "exposing", tmp_path) as process:
        await to_thread(eventually, process.leads, "it leads")
        files = await to_thread(mounted, cluster, namespace, tmp_path)
        authority, token = files["ca_file"].read_bytes(), files["token_file"].read_text()
        follower = PolicyFollower(process.port, authority, token=token)
        task = asyncio.create_task(follower.follow(namespace, "demo"))
        try:
            await soon(lambda: follower.revision or task.done(), "a policy runs")
            await to_thread(place.is_closed_and_opened)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await task
            await follower.close()
        left = "controller_sidecars 0.0"
        await to_thread(eventually, lambda: left in process.metrics(), "the sidecar has left")
        assert await to_thread(place.reason) == "NoNetworkPolicy"

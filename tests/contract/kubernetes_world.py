"""The processor and the api as Deployments of a real API server, for the contract of Cluster."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from aiohttp import web

from backend.adapters.kubernetes_calls import new_calls
from backend.adapters.kubernetes_cluster import KubernetesCluster
from backend.adapters.kubernetes_cluster_workloads import KubernetesWorkloads
from backend.metrics import Name
from tests.contract.clusters import VERSION, World
from tests.tools.kube_cluster import KubeCluster
from tests.tools.kube_objects import Served
from tests.tools.kube_workloads import workload
from tests.tools.kubelet_double import KubeletDouble
from tests.tools.log_thread import LogThread
from tests.tools.ports import HOST
from tests.tools.waiting import eventually
from tests.unit.extauthz.core.objects import server

METRICS: Final = 9102
PREFIX: Final = "mcp-sentinel-"


@dataclass
class KubernetesWorld(World):
    """Args: double: the node of the cluster."""

    double: KubeletDouble = None  # type: ignore[assignment]

    def fail(self, key: str, fault: str) -> None:
        super().fail(key, fault)
        if fault:
            self.double.unready.add(PREFIX + key)
        else:
            self.double.unready.discard(PREFIX + key)

    def hold(self, key: str) -> None:
        self.double.unready.add(PREFIX + key)

    def let(self, key: str) -> None:
        self.double.unready.discard(PREFIX + key)

    def begun(self) -> list[str]:
        return [each.removeprefix(PREFIX) for each in super().begun()]


@contextmanager
def deployed(
    cluster: KubeCluster, double: KubeletDouble, thread: LogThread
) -> Iterator[KubernetesWorld]:
    """In a namespace of its own."""
    namespace = f"sentinel-{uuid4().hex[:8]}"
    done = cluster.kubectl("create", "namespace", namespace)
    assert done.returncode == 0, done.stderr
    _guard(cluster)
    calls = thread.run(new_calls("", lambda _verb, _resource: None, str(cluster.kubeconfig)))
    workloads = KubernetesWorkloads(calls, namespace, time.time)
    keys = ("processor", "api")
    asked = KubernetesCluster(workloads, thread.loop)
    world = KubernetesWorld(asked, keys, "ui", told=double.told, double=double)
    runner = thread.run(_operations(world))
    double.ports[PREFIX + "processor", METRICS] = runner.addresses[0][1]
    for key in keys:
        text = json.dumps(workload(PREFIX + key, f"registry.example/{key}:{VERSION}"))
        done = cluster.kubectl("create", "--namespace", namespace, "--filename", "-", text=text)
        assert done.returncode == 0, done.stderr
    try:
        for key in keys:
            eventually(lambda: world.serves(key), f"{key} serves")  # noqa: B023
        yield world
    finally:
        double.unready.clear()
        thread.run(runner.cleanup())
        thread.run(asked.close())
        thread.run(calls.close())
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def _guard(cluster: KubeCluster) -> None:
    """A server with a sidecar, as the controller tells of it."""
    if cluster.kubectl("create", "namespace", "mcp-servers").returncode:
        return  # of a test before
    served = Served(cluster)
    made = served.create(server("shop"), "mcp-servers")
    served.set_status(made, policy={"revision": "sha256:1", "connected": 1, "enforcing": 1})


async def _operations(world: KubernetesWorld) -> web.AppRunner:
    """What the processor answers operators."""

    async def ready(_: web.Request) -> web.Response:
        fault = world.faults.get("processor")
        return web.json_response({"ok": not fault} | ({"store": fault} if fault else {}))

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=f"{Name.LAG} 7.0\n")

    app = web.Application()
    app.add_routes([web.get("/ready", ready), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    return runner

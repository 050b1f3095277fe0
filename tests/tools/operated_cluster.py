"""A cluster on which some of Sentinel's components are installed, in name alone, to be operated."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from aiohttp import web
from click.testing import CliRunner, Result

from backend.cli.main import sentinel
from backend.metrics import Name
from backend.ports.workloads import Workloads
from backend.wiring_cluster import opened_workloads
from tests.tools.kube_cluster import KubeCluster, governed_cluster
from tests.tools.kube_objects import Served
from tests.tools.kube_workloads import workload
from tests.tools.kubelet_double import KubeletDouble, joined
from tests.tools.log_thread import LogThread
from tests.tools.ports import HOST
from tests.tools.waiting import eventually
from tests.unit.extauthz.core.objects import server

NAMESPACE: Final = "mcp-sentinel"
INGEST, PROCESSOR, KAFKA = "mcp-sentinel-ingest", "mcp-sentinel-processor", "kafka"
HTTP: Final = 8081
IMAGE: Final = "registry.example:5000/backend:0.1.0"


@dataclass
class World:
    """A cluster with ingest (two pods), processor and kafka, and a server with a sidecar."""

    cluster: KubeCluster
    double: KubeletDouble

    def run(self, *words: str, program: click.Command = sentinel) -> Result:
        environ = {"KUBECONFIG": str(self.cluster.kubeconfig)}
        return CliRunner(env=environ).invoke(program, words)

    def pods(self, app: str, namespace: str = NAMESPACE) -> list[str]:
        """Names of its pods that stay."""
        return sorted(
            each["metadata"]["name"]
            for each in self.double.pods(namespace)
            if each["metadata"]["labels"].get("app") == app
            and "deletionTimestamp" not in each["metadata"]
        )

    def told(self) -> dict[str, dict[str, Any]]:
        """What `status` says of each component."""
        result = self.run("status", "--use-kube", "--json")
        return {each["key"]: each for each in json.loads(result.stdout)["components"]}

    def serves(self) -> bool:
        return all(
            each["status"] == "Ready"
            for each in self.told().values()
            if each["key"] in {"ingest", "processor", "kafka"}
        )

    def apply(self, *objects: dict[str, Any], namespace: str = NAMESPACE) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        words = ("apply", "--namespace", namespace, "--filename", "-")
        done = self.cluster.kubectl(*words, text=text)
        assert done.returncode == 0, done.stderr

    @asynccontextmanager
    async def workloads(self) -> AsyncIterator[Workloads]:
        async with opened_workloads(str(self.cluster.kubeconfig), "", NAMESPACE) as found:
            yield found


@contextmanager
def operated_cluster(folder: Path) -> Iterator[World]:
    """Started, and all serve."""
    thread = LogThread()
    with governed_cluster(folder / "cluster") as cluster, joined(cluster, folder) as double:
        cluster.start_controllers()
        world = World(cluster, double)
        for namespace in (NAMESPACE, "mcp-servers"):
            done = cluster.kubectl("create", "namespace", namespace)
            assert done.returncode == 0, done.stderr
        world.apply(
            workload(INGEST, "registry.example:5000/backend:0.1.0", replicas=2),
            workload(PROCESSOR, "registry.example:5000/backend:0.1.0"),
            workload(KAFKA, "apache/kafka:4.4.0", kind="StatefulSet"),
        )
        served = Served(cluster)
        made = served.create(server("shop"), "mcp-servers")
        policy = {"revision": "sha256:1", "connected": 2, "enforcing": 1}
        served.set_status(made, policy=policy)
        world.apply(workload("shop", "shop:1"), namespace="mcp-servers")
        runner = thread.run(_answers())
        port = runner.addresses[0][1]
        double.ports = {(app, 9102): port for app in (INGEST, PROCESSOR, "shop")}
        double.ports[INGEST, HTTP] = port
        eventually(world.serves, "all serve")
        yield world
        thread.run(runner.cleanup())
        thread.stop()


async def _answers() -> web.AppRunner:
    """What pods answer: one that processes, and one that decides."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=f"{Name.LAG} 12.0\n")

    async def policy(_: web.Request) -> web.Response:
        return web.json_response({"policy": {"confirmed_at": "2026-01-01T00:00:00Z"}})

    async def ready(_: web.Request) -> web.Response:
        return web.json_response({"ok": False, "event_log": "no broker answers"}, status=503)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/config/status", policy)])
    app.add_routes([web.get("/ready", ready)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    return runner

"""The controller as a process, with the decision point's own stream source as its sidecar.

What waits, or starts a process, does so on a thread: the sidecar lives on the event loop.
"""

import json
from asyncio import to_thread
from pathlib import Path
from typing import Any

from tests.tools.controller_process import ControllerProcess, running_controller
from tests.tools.kube_cluster import KubeCluster, governed_cluster
from tests.tools.kube_objects import Served
from tests.tools.kube_rights import install
from tests.tools.kube_sidecar import mounted
from tests.tools.waiting import eventually
from tests.unit.extauthz.core.objects import grant, server
from tests.unit.extauthz.sources.stream_world import World

HOME = "mcp-sentinel"
DENIED, ALLOWED = "deny no_matching_grant", "allow allowed"


def _grant(namespace: str, name: str = "reader", **spec: Any) -> Any:
    place = {"name": "demo", "namespace": namespace}
    return grant(name, namespace, serverRef=place, subject={"agentID": "ops"}, **spec)


async def test_a_revocation_reaches_themounted(
    cluster: KubeCluster, served: Served, namespace: str, tmp_path: Path
) -> None:
    """A grant applied by kubectl opens, disabled it closes, and both are in the history."""
    served.create(server("demo", tools=[{"name": "echo"}]), namespace)
    with running_controller(cluster.kubeconfig, namespace, "one", tmp_path) as process:
        await to_thread(eventually, process.leads, "it leads")
        told = await to_thread(mounted, cluster, namespace, tmp_path)
        async with World(process.port, tmp_path, **told).running() as world:
            await world.decides(DENIED)
            made = json.dumps(_grant(namespace))
            done = await to_thread(cluster.kubectl, "apply", "--filename", "-", text=made)
            assert done.returncode == 0, done.stderr
            await world.decides(ALLOWED)
            patch = ("--type=merge", "--patch", '{"spec": {"disabled": true}}')
            reader = ("mcpg", "reader", "--namespace", namespace)
            await to_thread(cluster.kubectl, "patch", *reader, *patch)
            await world.decides("deny grant_disabled")
            await to_thread(cluster.kubectl, "delete", *reader)
            await world.decides(DENIED)
            counted = "controller_sidecars 1.0"
            await to_thread(eventually, lambda: counted in process.metrics(), "it is counted")
        await to_thread(eventually, lambda: len(_of(process, namespace)) == 3, "all is recorded")
        changes = _of(process, namespace)
        assert [each["action"] for each in changes] == ["created", "changed", "deleted"]
        assert changes[0]["actor"] == "kubectl-client-side-apply"
        assert changes[2]["actor"] == "unknown"
        assert "audit log" in changes[2]["actor_unknown"]
        assert changes[1]["before"]["spec"].get("disabled") in {None, False}
        assert changes[1]["after"]["spec"]["disabled"] is True
        assert await to_thread(process.end) == 0


async def test_a_killed_leader_is_replaced(
    cluster: KubeCluster, served: Served, namespace: str, tmp_path: Path
) -> None:
    """The standby leads after the lease's time, and sidecars that come are not sent all again."""
    served.create(server("demo", tools=[{"name": "echo"}]), namespace)
    with (
        running_controller(cluster.kubeconfig, namespace, "one", tmp_path) as first,
        running_controller(cluster.kubeconfig, namespace, "two", tmp_path) as second,
    ):
        for each in (first, second):
            await to_thread(eventually, each.is_ready, "both know the objects")
        await to_thread(eventually, lambda: first.leads() or second.leads(), "one of them leads")
        leader, standby = (first, second) if first.leads() else (second, first)
        assert not standby.leads()
        told = await to_thread(mounted, cluster, namespace, tmp_path)
        async with World(leader.port, tmp_path, **told).running() as world:
            await world.decides(DENIED)
        leader.kill()
        served.create(_grant(namespace), namespace)
        await to_thread(eventually, standby.leads, "the standby leads")
        async with World(standby.port, tmp_path, **told).running() as world:
            await world.decides(ALLOWED)
        assert 'updates_total{kind="full"}' not in standby.metrics()


async def test_an_api_server_that_is_away(tmp_path: Path) -> None:
    """Sidecars go on meanwhile; what changed is with them afterwards. By its own account alone."""
    with governed_cluster(tmp_path / "cluster") as cluster:
        served, namespace = Served(cluster), "default"
        install(cluster)
        account = cluster.kubeconfig_of(HOME, "mcp-sentinel-controller")
        served.create(server("demo", tools=[{"name": "echo"}]), namespace)
        served.create(_grant(namespace), namespace)
        with running_controller(account, HOME, "one", tmp_path) as process:
            await to_thread(eventually, process.leads, "it leads")
            told = await to_thread(mounted, cluster, namespace, tmp_path)
            async with World(process.port, tmp_path, **told).running() as world:
                await world.decides(ALLOWED)
                await to_thread(eventually, lambda: _is_shown(served, namespace), "it is shown")
                assert "refuses" not in process.said()
                cluster.kill("kube-apiserver")
                await to_thread(eventually, lambda: not process.is_ready(), "it notices")
                assert world.decide() == ALLOWED
                await to_thread(cluster.start)
                await to_thread(eventually, process.is_ready, "it follows again")
                reader = ("mcpg", "reader", "--namespace", namespace)
                await to_thread(cluster.kubectl, "delete", *reader)
                await world.decides(DENIED)


def _is_shown(served: Served, namespace: str) -> bool:
    return "Acknowledged" in json.dumps(served.get(_grant(namespace)))


def _of(process: ControllerProcess, namespace: str) -> list[dict[str, Any]]:
    """Changes of the grant."""
    return [
        each
        for each in process.changes()
        if (each["namespace"], each["kind"]) == (namespace, "MCPAccessGrant")
    ]

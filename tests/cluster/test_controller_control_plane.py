"""What the controller asks of a real API server."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from backend.adapters.kubernetes_calls import ApiCalls, new_calls
from backend.adapters.kubernetes_control import KubernetesControl
from backend.controller.watching import KindWatch
from backend.ports.control_plane import Caller, Condition, Expired, Lease, Note, PolicyStatus
from extauthz.core.errors import Conflict, NotFound
from extauthz.core.model import MCPAccessGrant
from tests.tools.kube_cluster import KubeCluster
from tests.tools.kube_objects import Served
from tests.tools.ports import free_port
from tests.tools.tcp_proxy import TcpProxy
from tests.tools.waiting import soon
from tests.unit.extauthz.core.objects import grant, server

AUDIENCE = "mcp-sentinel-controller"


@pytest.fixture
async def calls(cluster: KubeCluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiCalls]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    made = await new_calls("", lambda _verb, _resource: None)
    yield made
    await made.close()


@pytest.fixture
def control(calls: ApiCalls, namespace: str) -> KubernetesControl:
    return KubernetesControl(calls, namespace=namespace, instance="me", clock=time.time)


async def test_changes_follow_a_listing(
    control: KubernetesControl, served: Served, namespace: str
) -> None:
    """What is listed, and then each change, comes with the object as it stands."""
    made = served.create(grant("one"), namespace)
    listing = await control.listed("MCPAccessGrant")
    assert made["metadata"]["uid"] in {each.uid for each in listing.items}
    made["spec"]["disabled"] = True
    served.replace(made)
    async with aclosing(control.changes("MCPAccessGrant", listing.version)) as changes:
        seen = await anext(changes)
        assert seen.standing is not None
        assert isinstance(seen.standing.resource, MCPAccessGrant)
        assert seen.standing.resource.disabled
        assert seen.standing.generation == 2
        served.clear(namespace)
        gone = await anext(changes)
    assert gone.key == seen.key
    assert gone.standing is None


async def test_a_forgotten_version_is_told(control: KubernetesControl) -> None:
    """A version that the API server does not know any more asks for a new listing."""
    with pytest.raises(Expired):
        await anext(control.changes("MCPServer", "1"))


async def test_a_break_in_a_quiet_cluster(
    cluster: KubeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is followed again counts as such, though the API server has nothing to tell."""
    port = int(cluster.url.rpartition(":")[2])
    proxy, kubeconfig = TcpProxy(port), tmp_path / "kubeconfig"
    text = cluster.kubeconfig.read_text()
    kubeconfig.write_text(text.replace(cluster.url, f"https://{proxy.address}"))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    calls = await new_calls("", lambda _verb, _resource: None)
    control = KubernetesControl(calls, namespace="default", instance="me", clock=time.time)
    listed: list[str] = []
    watch = KindWatch(
        control,
        "MCPServer",
        listed=lambda kind, _items, _gone: listed.append(kind),
        changed=lambda _: None,
    )
    running = asyncio.create_task(watch.run())
    await soon(lambda: watch.is_live, "it is followed")
    proxy.target = free_port()
    proxy.cut()
    await soon(lambda: not watch.is_live, "the break is noticed")
    proxy.target = port
    await soon(lambda: watch.is_live, "it is followed again")
    assert listed == ["MCPServer"]
    running.cancel()
    await asyncio.wait({running})
    await calls.close()
    proxy.close()


async def test_status_keeps_what_others_wrote(
    control: KubernetesControl, served: Served, namespace: str
) -> None:
    """Conditions of ours stand beside those of others, and a status is no new generation."""
    made = served.create(server(), namespace)
    served.set_status(made, phase="Running", conditions=[{"type": "Theirs", "status": "True"}])
    [standing] = [s for s in (await control.listed("MCPServer")).items if s.key[1] == namespace]
    told = Condition("Accepted", "True", "Accepted", "counts", 1, "2026-01-01T00:00:00Z")
    await control.write_status(standing, [told], PolicyStatus("sha256:0123456789abcdef", 3, 2))
    [after] = [s for s in (await control.listed("MCPServer")).items if s.key[1] == namespace]
    assert {each.type for each in after.conditions} == {"Theirs", "Accepted"}
    assert told in after.conditions
    assert after.policy == PolicyStatus("sha256:0123456789abcdef", 3, 2)
    assert after.generation == 1
    assert served.get(made)["status"]["phase"] == "Running"
    served.clear(namespace)
    with pytest.raises(NotFound):
        await control.write_status(standing, [told], None)


async def test_a_token_speaks_for_its_pod(
    control: KubernetesControl, cluster: KubeCluster, namespace: str
) -> None:
    """A token for the audience names the account and its pod; any other does not count."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "shop-1", "namespace": namespace, "labels": {"app": "shop"}},
        "spec": {"serviceAccountName": "shop", "containers": [{"name": "c", "image": "none"}]},
    }
    cluster.kubectl("create", "serviceaccount", "shop", "--namespace", namespace)
    done = cluster.kubectl("create", "--filename", "-", text=json.dumps(pod))
    assert done.returncode == 0, done.stderr
    words = ("create", "token", "shop", "--namespace", namespace)
    bound = ("--bound-object-kind=Pod", "--bound-object-name=shop-1")
    token = cluster.kubectl(*words, f"--audience={AUDIENCE}", *bound).stdout.strip()
    caller = await control.review(token, AUDIENCE)
    assert caller is not None
    assert (caller.namespace, caller.account, caller.pod) == (namespace, "shop", "shop-1")
    pod = await control.pod(caller)
    assert pod
    assert pod.labels["app"] == "shop"
    assert await control.pod(Caller(namespace, "shop", "shop-1", "another")) is None
    assert await control.review(cluster.token(namespace, "shop"), AUDIENCE) is None
    assert await control.review("nonsense", AUDIENCE) is None


async def test_a_lease_is_taken_once(control: KubernetesControl) -> None:
    """Of two that write the same lease, the second is refused."""
    assert await control.lease() is None
    made = await control.write_lease(Lease("me", 15, "", "", 0))
    assert (await control.lease()) == made
    assert made.holder == "me"
    await control.write_lease(made)
    with pytest.raises(Conflict):
        await control.write_lease(made)
    async with aclosing(control.lease_changes()) as changes:
        assert (await anext(changes)).holder == "me"


async def test_events_stand_on_the_object(
    control: KubernetesControl, served: Served, cluster: KubeCluster, namespace: str
) -> None:
    """`kubectl events` shows what was noted about an object."""
    served.create(grant("one"), namespace)
    found = (await control.listed("MCPAccessGrant")).items
    [standing] = [each for each in found if each.key.namespace == namespace]
    await control.note(Note(standing.key, standing.uid, "Warning", "NotAccepted", "no such server"))
    words = ("events", "--namespace", namespace, "--for", "mcpaccessgrant/one")
    assert "no such server" in cluster.kubectl(*words).stdout


async def test_config_maps_tell_whose_they_are(
    control: KubernetesControl, served: Served, cluster: KubeCluster, namespace: str
) -> None:
    """One that we wrote is ours and names its owner; one of others is not."""
    served.create(server("shop"), namespace)
    found = (await control.listed("MCPServer")).items
    [owner] = [each for each in found if each.key.namespace == namespace]
    await control.write_config_map(namespace, "ours", owner, {"policy.json": "{}"})
    cluster.kubectl("create", "configmap", "theirs", "--namespace", namespace)
    ours, theirs = [await control.config_map(namespace, name) for name in ("ours", "theirs")]
    assert ours is not None
    assert theirs is not None
    assert (ours.owner, ours.is_ours) == (owner.uid, True)
    assert ours.data == {"policy.json": "{}"}
    assert not theirs.is_ours
    await control.delete_config_map(namespace, "ours")
    assert await control.config_map(namespace, "ours") is None

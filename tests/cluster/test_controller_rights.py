"""What the controller's account must be able to do, shown by the controller's own calls."""

import json
import os
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest

from backend.adapters.kubernetes_calls import new_calls
from backend.adapters.kubernetes_control import KubernetesControl
from backend.controller.certificates import SECRET
from backend.ports.control_plane import Caller, Condition, Lease, Note, Secret, Standing
from backend.ports.network import NETWORK_KINDS
from extauthz.core.errors import Retryable
from tests.tools.controller_process import running_controller
from tests.tools.kube_cluster import KubeCluster
from tests.tools.kube_objects import PLURALS, Served
from tests.tools.kube_rights import account_lacking, install, verbs
from tests.tools.waiting import eventually
from tests.unit.extauthz.core.objects import grant, server, session

HOME = "mcp-sentinel"
NOW = 1_767_225_600.0
SENT = "mcp-sentinel-controller"


@contextmanager
def acting_as(kubeconfig: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "KUBECONFIG", str(kubeconfig))
        yield


async def use(kubeconfig: Path, home: str, namespace: str, token: str) -> None:
    """All that the controller does, on objects of `namespace`."""
    with acting_as(kubeconfig):
        calls = await new_calls("", lambda _verb, _resource: None)
    control = KubernetesControl(calls, namespace=home, instance="a", clock=lambda: NOW)
    try:
        for kind in PLURALS:
            listing = await control.listed(kind)
            async with aclosing(control.changes(kind, "0")) as changes:
                await anext(changes)
            standing = next(each for each in listing.items if each.key.namespace == namespace)
            known = ("Accepted", "True", "Accepted", "ok", standing.generation)
            accepted = Condition(*known, since="2026-01-01T00:00:00Z")
            await control.write_status(standing, [accepted], None)
        await use_beside(control, namespace, standing, token)
        await use_at_home(control)
    finally:
        await calls.close()


async def use_beside(
    control: KubernetesControl, namespace: str, standing: Standing, token: str
) -> None:
    """ConfigMaps, Events, tokens and pods."""
    await control.config_map(namespace, "shop-gateway-policy")
    for text in ("{}", "[]"):
        await control.write_config_map(
            namespace, "shop-gateway-policy", None, {"policy.json": text}
        )
    await control.delete_config_map(namespace, "shop-gateway-policy")
    await control.note(Note(standing.key, standing.uid, "Normal", "Enforced", "by all"))
    caller = await control.review(token, SENT)
    assert caller is not None
    assert caller.account == "default"
    await control.pod(Caller(namespace, "default", "no-such-pod", "uid"))
    for kind in NETWORK_KINDS:
        listing = await control.network.listed(kind)
        async with aclosing(control.network.changes(kind, listing.version)) as changes:
            await anext(changes)


async def use_at_home(control: KubernetesControl) -> None:
    """The lease and the certificate."""
    held = await control.write_lease(await control.lease() or Lease("a", 15, "", "", 0))
    await control.write_lease(held)
    async with aclosing(control.lease_changes()) as changes:
        await anext(changes)
    for _ in range(2):
        found = await control.secret(SECRET)
        await control.write_secret(
            SECRET, Secret({"tls.crt": b"x"}, found.version if found else "")
        )


@pytest.fixture(scope="module")
def installed(cluster: KubeCluster) -> None:
    install(cluster)


@pytest.fixture
def token(installed: None, cluster: KubeCluster, served: Served, namespace: str) -> str:
    """Of a sidecar, beside objects of each kind."""
    for each in (server(), grant(), session()):
        served.create(each, namespace)
    cluster.kubectl("create", "serviceaccount", "default", "--namespace", namespace)
    return cluster.token(namespace, "default", [SENT])


async def test_the_controller_works(cluster: KubeCluster, namespace: str, token: str) -> None:
    """By its own account, where the manifest puts it."""
    await use(cluster.kubeconfig_of(HOME, SENT), HOME, namespace, token)


def test_the_process_works(
    cluster: KubeCluster, served: Served, namespace: str, token: str, tmp_path: Path
) -> None:
    """As a whole: it leads, and says of a grant that it counts; the API server refuses nothing."""
    cluster.kubectl("delete", "leases", "--all", "--namespace", HOME)
    account = cluster.kubeconfig_of(HOME, SENT)
    words = ("get", "mcpg", "g", "--namespace", namespace, "--output", "json")
    document = ("get", "configmap", "srv-gateway-policy", "--namespace", namespace)
    with running_controller(account, HOME, "own-account", tmp_path) as process:
        eventually(lambda: '"Accepted"' in cluster.kubectl(*words).stdout, "its status is written")
        eventually(lambda: not cluster.kubectl(*document).returncode, "the policy is written")
        assert process.leads()
        assert process.end() == 0
    said = [json.loads(line)["message"] for line in process.said().splitlines()]
    assert not [message for message in said if "cannot" in message]


@pytest.mark.parametrize(("resource", "verb"), list(verbs("controller")))
async def test_the_controller_needs_each_verb(
    cluster: KubeCluster, namespace: str, token: str, resource: str, verb: str
) -> None:
    """Without one of them something is refused, and said so."""
    lacking = account_lacking(cluster, namespace, "controller", resource, verb)
    plain, _, subresource = resource.partition("/")
    told = f'cannot {verb} resource "{plain}{"/" if subresource else ""}{subresource}"'
    with pytest.raises(Retryable, match=told):
        await use(lacking, namespace, namespace, token)

"""From kubectl to the sidecar: a controller on a real API server."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from backend.adapters.kubernetes_calls import new_calls
from backend.adapters.kubernetes_control import KubernetesControl
from backend.controller.certificates import OwnCertificates
from backend.controller.controller import Controller, Options
from backend.metrics import ControllerMetrics
from extauthz.core.accounts import ANNOTATION
from tests.tools.kube_cluster import KubeCluster
from tests.tools.kube_objects import Served
from tests.tools.policy_follower import PolicyFollower, refusal
from tests.tools.waiting import soon
from tests.unit.extauthz.core.objects import grant, server, session

AUDIENCE = "mcp-sentinel-controller"
ACCOUNT = "sidecar"
Start = Callable[..., Awaitable[Controller]]


@asynccontextmanager
async def _controller(namespace: str, name: str, lease_seconds: int) -> AsyncIterator[Controller]:
    calls = await new_calls("", lambda _verb, _resource: None)
    control = KubernetesControl(calls, namespace=namespace, instance=name, clock=time.time)
    controller = Controller(
        control,
        OwnCertificates(control, ["127.0.0.1"], time.time),
        Options(
            name=name,
            cluster="tests",
            host="127.0.0.1",
            port=0,
            lease_seconds=lease_seconds,
            token_seconds=60,
        ),
        record=lambda _before, _after: None,
        metrics=ControllerMetrics(CollectorRegistry()),
        clock=time.time,
        monotonic=time.monotonic,
    )
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(controller.run(stop, ready.set))
    try:
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        yield controller
    finally:
        stop.set()
        with suppress(asyncio.CancelledError):
            await task
        await calls.close()


@pytest.fixture(autouse=True)
def _kubeconfig(cluster: KubeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))


@pytest.fixture
async def controller(namespace: str) -> AsyncIterator[Controller]:
    """One that leads, and knows what is there."""
    async with _controller(namespace, "one", 15) as made:
        await soon(lambda: not made.fault(), "it leads")
        yield made


@pytest.fixture
def shop(cluster: KubeCluster, served: Served, namespace: str) -> str:
    """A server whose sidecars have an account; the token for it."""
    made = server("shop", tools=[{"name": "list"}, {"name": "buy"}])
    made["metadata"]["annotations"] = {ANNOTATION: ACCOUNT}
    served.create(made, namespace)
    served.create(_grant("reader", namespace), namespace)
    cluster.kubectl("create", "serviceaccount", ACCOUNT, "--namespace", namespace)
    return cluster.token(namespace, ACCOUNT, [AUDIENCE])


def _grant(name: str, namespace: str, **spec: Any) -> Any:
    return grant(name, namespace, serverRef={"name": "shop", "namespace": namespace}, **spec)


@asynccontextmanager
async def _following(
    controller: Controller, namespace: str, token: str
) -> AsyncIterator[PolicyFollower]:
    follower = PolicyFollower(controller.server.port, controller.server.authority, token=token)
    task = asyncio.create_task(follower.follow(namespace, "shop"))
    try:
        await soon(lambda: follower.revision or task.done(), "a policy runs")
        yield follower
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await task
        await follower.close()


async def test_a_grant_opens_and_its_end_closes(
    controller: Controller, served: Served, shop: str, namespace: str, cluster: KubeCluster
) -> None:
    """What is applied and deleted is in the sidecar's document at once, as increments."""
    async with _following(controller, namespace, shop) as follower:
        assert follower.names("grants") == {"reader"}
        served.create(_grant("buyer", namespace), namespace)
        await soon(lambda: follower.names("grants") == {"reader", "buyer"}, "the grant runs")
        made = session("s", namespace, serverRef={"name": "shop", "namespace": namespace})
        served.create(made, namespace)
        await soon(lambda: follower.names("sessions") == {"s"}, "the session runs")
        cluster.kubectl("delete", "mcpg", "reader", "--namespace", namespace)
        await soon(lambda: follower.names("grants") == {"buyer"}, "the grant is gone")
        assert [base for _, base in follower.updates if not base] == [""]


async def test_a_server_that_is_gone_ends_its_streams(
    controller: Controller, served: Served, shop: str, namespace: str
) -> None:
    """Its sidecars are told that there is none."""
    follower = PolicyFollower(controller.server.port, controller.server.authority, token=shop)
    task = asyncio.create_task(follower.follow(namespace, "shop"))
    await soon(lambda: follower.revision or task.done(), "a policy runs")
    served.clear(namespace)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await task
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    await follower.close()


async def test_status_says_what_is_enforced(
    controller: Controller, served: Served, shop: str, namespace: str
) -> None:
    """A grant is enforced once its sidecar says so, and the server tells revision and sidecars."""
    async with _following(controller, namespace, shop) as follower:
        await soon(
            lambda: _conditions(served, _grant("reader", namespace)).get("Enforced") == "True"
        )
        status = await _policy(served, namespace, "1/1")
        assert status["revision"] == follower.revision
        assert follower.revision.startswith(status["shortRevision"])
        follower.refuses = "no room"
        served.create(_grant("buyer", namespace), namespace)
        await soon(lambda: "no room" in json.dumps(served.get(_grant("buyer", namespace))))
        assert _conditions(served, _grant("buyer", namespace))["Enforced"] == "Unknown"
        follower.refuses = ""
        served.create(_grant("third", namespace), namespace)
        await soon(lambda: _conditions(served, _grant("buyer", namespace))["Enforced"] == "True")
    await _policy(served, namespace, "0/0")
    assert _conditions(served, _grant("reader", namespace))["Enforced"] == "True"


async def test_bad_objects_get_a_condition(
    controller: Controller, served: Served, shop: str, namespace: str, cluster: KubeCluster
) -> None:
    """A grant for no server, or one that has expired, is told so, with an Event."""
    lost = grant("lost", namespace, serverRef={"name": "shop2", "namespace": namespace})
    served.create(lost, namespace)
    late = _grant("late", namespace, expiresAt="2020-01-01T00:00:00Z")
    served.create(late, namespace)
    served.create(server("mutual", auth={"mode": "mtls"}), namespace)
    await soon(lambda: "NoServer" in json.dumps(served.get(lost)))
    await soon(lambda: "Expired" in json.dumps(served.get(late)))
    assert _conditions(served, lost)["Accepted"] == "False"
    bad = server("mutual")
    bad["metadata"]["namespace"] = namespace
    await soon(lambda: _conditions(served, bad).get("Accepted") == "False")
    assert "mtls" in json.dumps(served.get(bad)["status"])
    words = ("events", "--namespace", namespace, "--for", "mcpaccessgrant/lost")
    await soon(lambda: "did you mean" in cluster.kubectl(*words).stdout, "the Event is there")


async def test_a_config_map_of_others_is_left_alone(
    controller: Controller, served: Served, shop: str, namespace: str, cluster: KubeCluster
) -> None:
    """Ours holds the document; where mcp-runtime's stands, that stays, and a condition says so."""
    other = ("create", "configmap", "taken-gateway-policy", "--namespace", namespace)
    cluster.kubectl(*other, "--from-literal=policy.json=theirs")
    taken = served.create(server("taken"), namespace)
    await soon(lambda: _conditions(served, taken).get("ConfigMapConflict") == "True")
    name = ("get", "configmap", "--namespace", namespace, "--output", "json")
    assert json.loads(cluster.kubectl(*name, "taken-gateway-policy").stdout)["data"] == {
        "policy.json": "theirs"
    }
    ours = "shop-gateway-policy"
    await soon(lambda: cluster.kubectl(*name, ours).returncode == 0, "ours is written")
    found = json.loads(cluster.kubectl(*name, ours).stdout)
    document = json.loads(found["data"]["policy.json"])
    assert document["server"]["name"] == "shop"
    assert found["metadata"]["ownerReferences"][0]["name"] == "shop"


async def test_who_may_follow(
    controller: Controller, served: Served, shop: str, namespace: str, cluster: KubeCluster
) -> None:
    """No token, a wrong one and one for another server are refused, with the reason."""
    served.create(server("other"), namespace)
    cases = {
        "": (grpc.StatusCode.UNAUTHENTICATED, "shop"),
        "nonsense": (grpc.StatusCode.UNAUTHENTICATED, "shop"),
        cluster.token(namespace, ACCOUNT): (grpc.StatusCode.UNAUTHENTICATED, "shop"),
        shop: (grpc.StatusCode.PERMISSION_DENIED, "other"),
    }
    for token, (code, name) in cases.items():
        port, authority = controller.server.port, controller.server.authority
        follower = PolicyFollower(port, authority, token=token)
        error = await refusal(follower, namespace, name)
        assert error.code() is code
        assert token == "" or token not in str(error.details())
        await follower.close()


async def test_a_restart_resends_nothing(served: Served, shop: str, namespace: str) -> None:
    """A sidecar that holds the document is only told that it is current, by another process too."""
    async with _controller(namespace, "one", 15) as first:
        await soon(lambda: not first.fault(), "it leads")
        async with _following(first, namespace, shop) as follower:
            revision = follower.revision
    async with _controller(namespace, "two", 15) as second:
        await soon(lambda: not second.fault(), "the next leads")
        again = PolicyFollower(second.server.port, second.server.authority, token=shop)
        again.revision, again.refuses = revision, ""
        task = asyncio.create_task(again.follow(namespace, "shop"))
        await soon(lambda: again.updates, "something is said")
        task.cancel()
        assert again.updates == [(revision, revision)]
        await again.close()


async def test_the_standby_takes_over(served: Served, shop: str, namespace: str) -> None:
    """A replica that does not lead refuses streams, and leads as soon as the leader ends."""
    async with AsyncExitStack() as rest:
        async with _controller(namespace, "one", 600) as first:
            await soon(lambda: not first.fault(), "it leads")
            second = await rest.enter_async_context(_controller(namespace, "two", 600))
            await soon(lambda: "`one`" in second.fault(), "it knows the leader")
            follower = PolicyFollower(second.server.port, second.server.authority, token=shop)
            error = await refusal(follower, namespace, "shop")
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            await follower.close()
        await soon(lambda: not second.fault(), "it leads now")
        async with _following(second, namespace, shop) as follower:
            assert follower.names("grants") == {"reader"}


def _conditions(served: Served, value: Any) -> dict[str, str]:
    status = served.get(value).get("status") or {}
    return {each["type"]: each["status"] for each in status.get("conditions", ())}


async def _policy(served: Served, namespace: str, sidecars: str) -> dict[str, Any]:
    """The server's, once it tells so many sidecars."""
    value = server("shop")
    value["metadata"]["namespace"] = namespace

    def told() -> dict[str, Any]:
        return (served.get(value).get("status") or {}).get("policy") or {}

    await soon(lambda: told().get("sidecars") == sidecars, f"{sidecars} sidecars")
    return told()

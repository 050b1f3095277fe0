"""The api over a cluster: what it shows and changes is what kubectl does."""

from pathlib import Path
from typing import Any

import pytest

from tests.tools.kube_cluster import KubeCluster
from tests.tools.kube_objects import Served
from tests.unit.backend.test_api_alone import answer, api
from tests.unit.extauthz.core.objects import grant, server


@pytest.fixture
def cloud(cluster: KubeCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Settings of an api on that cluster, with an event log."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    return {"ACCESS_URL": "kubernetes://", "EVENT_LOG_URL": f"sqlite://{tmp_path / 'log'}"}


async def test_it_shows_what_is_there(
    served: Served, namespace: str, tmp_path: Path, cloud: dict[str, str]
) -> None:
    """Servers, grants and the policy that they make."""
    served.create(server(tools=[{"name": "add"}]), namespace)
    ref = {"name": "srv", "namespace": namespace}
    served.create(grant(serverRef=ref, toolRules=[{"name": "add"}]), namespace)
    async with api(tmp_path, **cloud) as (http, url):
        _, found = await answer(http, f"{url}/runtime/servers?namespace={namespace}")
        assert [each["name"] for each in found["servers"]] == ["srv"]
        _, found = await answer(http, f"{url}/runtime/grants?namespace={namespace}")
        assert [each["name"] for each in found["grants"]] == ["g"]
        _, policy = await answer(http, f"{url}/runtime/policy?namespace={namespace}&server=srv")
        assert [each["name"] for each in policy["grants"]] == ["g"]


async def test_what_it_changes_kubectl_shows(
    cluster: KubeCluster, served: Served, namespace: str, tmp_path: Path, cloud: dict[str, str]
) -> None:
    """A grant is made, disabled and deleted."""
    served.create(server(), namespace)
    made = {"name": "new", "namespace": namespace, "maxTrust": "high"}
    made |= {"serverRef": {"name": "srv"}, "subject": {"agentID": "a"}}  # type: ignore[dict-item]
    async with api(tmp_path, **cloud) as (http, url):
        grants = f"{url}/runtime/grants"
        async with http.post(grants, json=made) as done:
            assert done.status == 200, await done.text()
        assert shown(cluster, namespace, "{.spec.maxTrust} {.spec.disabled}") == "high false"
        async with http.post(f"{grants}/{namespace}/new/disable") as done:
            assert done.status == 200, await done.text()
        assert shown(cluster, namespace, "{.spec.maxTrust} {.spec.disabled}") == "high true"
        async with http.delete(f"{grants}/{namespace}/new") as done:
            assert done.status == 200, await done.text()
    assert "NotFound" in cluster.kubectl("get", "mcpg", "new", "--namespace", namespace).stderr


async def test_what_the_cluster_refuses(
    served: Served, namespace: str, tmp_path: Path, cloud: dict[str, str]
) -> None:
    """The api refuses it too, with the field and the mend."""
    served.create(server(), namespace)
    rules: list[dict[str, Any]] = [{"name": "del", "decision": "allow", "requiredTrust": "high"}]
    made = {"name": "new", "namespace": namespace, "toolRules": rules}
    made |= {"serverRef": {"name": "srv"}, "subject": {"agentID": "a"}}
    async with (
        api(tmp_path, **cloud) as (http, url),
        http.post(f"{url}/runtime/grants", json=made) as done,
    ):
        assert done.status == 400
        problem = await done.json(content_type=None)
    assert "toolRules[0]" in str(problem)
    assert "raise maxTrust, or remove the rule" in problem["message"]


def shown(cluster: KubeCluster, namespace: str, path: str) -> str:
    """Of the grant `new`."""
    words = ("get", "mcpg", "new", "--namespace", namespace, f"--output=jsonpath={path}")
    return cluster.kubectl(*words).stdout

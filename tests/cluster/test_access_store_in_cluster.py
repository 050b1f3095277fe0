"""What the access store owes to a cluster, beyond its contract."""

import logging
from dataclasses import replace
from typing import Any

import pytest
from kubernetes import client, config

from backend.adapters.kubernetes_client import CustomObjects
from backend.adapters.kubernetes_store import KubernetesStore
from backend.wiring_adapters import new_access_store
from extauthz.core.errors import Invalid, NotFound, Retryable
from extauthz.core.governance import Key
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.resources import parse_object
from tests.tools.kube_cluster import KubeCluster
from tests.tools.kube_objects import Served
from tests.tools.ports import free_port
from tests.unit.extauthz.core.objects import grant, server, session


@pytest.fixture
def store(served: Served) -> KubernetesStore:
    return KubernetesStore(CustomObjects(served.api, page_size=2))


def unrecorded(_old: object, _new: object) -> None:
    pass


def revoke(found: MCPAgentSession | None) -> MCPAgentSession | None:
    return replace(found, revoked=True) if found else None


def test_lists_come_in_pages(store: KubernetesStore, served: Served, namespace: str) -> None:
    """A list is whole, however many answers it takes."""
    for number in range(5):
        served.create(grant(f"g{number}"), namespace)
    found = store.grants(namespace)
    assert [each.name for each in found] == ["g0", "g1", "g2", "g3", "g4"]


def test_what_cannot_be_read_is_left_out(
    store: KubernetesStore, served: Served, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says which object, and why; so does the error of who asks for it."""
    served.create(server("good"), namespace)
    served.create(server("bad", auth={"mode": "mtls"}), namespace)
    with caplog.at_level(logging.WARNING):
        assert [each.name for each in store.servers(namespace)] == ["good"]
    (record,) = caplog.records
    told: Any = record
    assert (told.object, told.namespace) == ("bad", namespace)
    assert "use header or oauth" in told.error
    with pytest.raises(NotFound, match=r"is there, but cannot be read: .*mtls"):
        store.get(MCPServer, namespace, "bad")


def test_what_others_keep_there_stays(
    store: KubernetesStore, served: Served, namespace: str
) -> None:
    """An edit changes what it is about: labels, foreign members and the status stay."""
    token = {"name": "tokens", "key": "a"}
    stored = served.create(session(upstreamTokenSecretRef=token), namespace)
    served.set_status(stored, phase="Active")
    store.edit(MCPAgentSession, namespace, "s", revoke, before_write=unrecorded)
    found = served.get(stored)
    assert found["spec"] == stored["spec"] | {"revoked": True}
    assert found["status"] == {"phase": "Active"}


def test_a_status_is_no_other_version(
    store: KubernetesStore, served: Served, namespace: str
) -> None:
    """Who has read an object may edit it, whatever the controller says of it meanwhile."""
    stored = served.create(session(), namespace)
    seen = store.get(MCPAgentSession, namespace, "s").version
    served.set_status(stored, phase="Active")
    edited = store.edit(
        MCPAgentSession, namespace, "s", revoke, before_write=unrecorded, expected=seen
    )
    assert edited.after is not None
    assert edited.after.version != seen


def test_an_edit_amid_an_edit_is_kept(
    store: KubernetesStore, served: Served, namespace: str
) -> None:
    """What kubectl writes between reading and writing is read, and the change made anew."""
    stored = served.create(grant(), namespace)
    maxima: list[str] = []

    def disable(found: MCPAccessGrant | None) -> MCPAccessGrant | None:
        assert found is not None
        maxima.append(found.max_trust)
        return replace(found, disabled=True)

    def write_between(_old: object, _new: object) -> None:
        if len(maxima) == 1:
            served.replace(stored | {"spec": stored["spec"] | {"maxTrust": "high"}})

    edited = store.edit(MCPAccessGrant, namespace, "g", disable, before_write=write_between)
    assert maxima == ["low", "high"]
    assert edited.after is not None
    assert (edited.after.resource.max_trust, edited.after.resource.disabled) == ("high", True)


def test_another_subject_of_a_session_is_refused(
    store: KubernetesStore, served: Served, namespace: str
) -> None:
    """Before anything is recorded."""
    served.create(session(), namespace)
    told: list[object] = []

    def steal(found: MCPAgentSession | None) -> MCPAgentSession | None:
        assert found is not None
        return replace(found, subject=replace(found.subject, agent_id="b"))

    def record(_old: object, new: object) -> None:
        told.append(new)

    with pytest.raises(Invalid, match="create another session"):
        store.edit(MCPAgentSession, namespace, "s", steal, before_write=record)
    assert told == []


def test_what_the_cluster_refuses_is_not_recorded(
    cluster: KubeCluster, store: KubernetesStore, served: Served, namespace: str
) -> None:
    """A right that is missing, or a policy of the cluster's owner, is found before that."""
    served.create(grant(), namespace)
    kubeconfig = cluster.account(namespace, "reader")
    words = (f"--serviceaccount={namespace}:reader", "--namespace", namespace)
    cluster.kubectl("create", "role", "reader", "--verb=get", "--resource=mcpg", *words[1:])
    cluster.kubectl("create", "rolebinding", "reader", "--role=reader", *words)
    api = config.new_client_from_config(config_file=str(kubeconfig))
    told: list[object] = []

    def record(_old: object, new: object) -> None:
        told.append(new)

    for change in (lambda g: replace(g, disabled=True), lambda _: None):
        with pytest.raises(Retryable, match=r"reader.* cannot (patch|delete) "):
            KubernetesStore(CustomObjects(api)).edit(
                MCPAccessGrant, namespace, "g", change, before_write=record
            )
    assert told == []


def test_an_account_without_the_role(cluster: KubeCluster, namespace: str) -> None:
    """It can read nothing: the error says whom to grant what."""
    kubeconfig = cluster.account(namespace, "stranger")
    api = config.new_client_from_config(config_file=str(kubeconfig))
    with pytest.raises(Retryable, match=r"stranger.* cannot list .*; grant it the role"):
        KubernetesStore(CustomObjects(api)).ping()


def test_an_api_server_that_is_away() -> None:
    """It may come back."""
    away = client.Configuration(host=f"http://127.0.0.1:{free_port()}")
    away.retries = False
    with pytest.raises(Retryable, match="does not answer"):
        KubernetesStore(CustomObjects(client.ApiClient(away))).ping()


def test_a_context_that_there_is_not(cluster: KubeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start stops with the setting and the mend."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    new_access_store("kubernetes://tests")
    with pytest.raises(Invalid, match=r"ACCESS_URL: finds no cluster.*kubernetes://CONTEXT"):
        new_access_store("kubernetes://production")


def test_an_api_server_that_comes_back(
    cluster: KubeCluster, store: KubernetesStore, served: Served, namespace: str
) -> None:
    """While it is away, questions may be asked again; what was there is there again."""
    served.create(grant(), namespace)
    cluster.kill("kube-apiserver")
    try:
        with pytest.raises(Retryable):
            store.grants(namespace)
    finally:
        cluster.start()
    assert [each.name for each in store.grants(namespace)] == ["g"]


def test_what_a_cluster_lacks_is_told(store: KubernetesStore, served: Served) -> None:
    """Without the custom resources, the command that installs them; so for a namespace."""
    objects = CustomObjects(served.api)
    key = Key("MCPAccessGrant", "nowhere", "g")
    for ask in (lambda: objects.page("mcpgateways"), lambda: objects.get("mcpgateways", key)):
        with pytest.raises(Retryable, match="install them: `kubectl apply -f k8s/crds`"):
            ask()
    new: Any = parse_object(grant() | {"metadata": {"name": "g", "namespace": "nowhere"}})
    with pytest.raises(NotFound, match="`kubectl create namespace nowhere`"):
        store.edit(MCPAccessGrant, "nowhere", "g", lambda _: new, before_write=unrecorded)

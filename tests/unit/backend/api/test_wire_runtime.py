"""Servers, policy, components and restart, as existing tools ask for them, in both spellings."""

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.adapters.directory import DirectoryStore
from backend.api.restart import Cooldown
from backend.ports.access_store import AccessStore
from backend.ports.cluster import ServerState, SidecarState, Status
from extauthz.core.governance import Restart
from tests.tools.event_rows import NOON
from tests.tools.told_cluster import ToldCluster, told_runtime
from tests.unit.backend.api.conftest import NewApp

OBJECTS = """
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: shop, namespace: mcp-servers}
spec:
  policy: {allowedNamespaces: [team-b]}
  tools: [{name: list, description: Lists, requiredTrust: low, sideEffect: read}]
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: bank, namespace: team-a}
spec: {}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: live, namespace: mcp-servers}
spec: {serverRef: {name: shop}, subject: {agentID: ops}}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: over, namespace: mcp-servers}
spec: {serverRef: {name: shop}, subject: {agentID: ops}, expiresAt: "2026-01-01T00:00:00Z"}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: admitted, namespace: team-b}
spec: {serverRef: {name: shop, namespace: mcp-servers}, subject: {agentID: ops}, disabled: true}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAgentSession
metadata: {name: open, namespace: mcp-servers}
spec: {serverRef: {name: shop}, subject: {agentID: ops}}
"""
SPELLINGS = pytest.mark.parametrize("mount", ["/api", "/api/v1"])
RESTART = "/api/runtime/actions/restart"
# What mcp-runtime's own tools read of a server and of a component.
SERVER_MEMBERS = {
    *("name", "namespace", "ready", "status", "labels", "age", "endpoint"),
    *("tools", "prompts", "resources", "tasks", "access_json"),
}
COMPONENT_MEMBERS = {
    *("key", "display", "namespace", "kind", "resource", "status", "ready", "message"),
}


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> AccessStore:
    folder: Path = tmp_path_factory.mktemp("access")
    (folder / "objects.yaml").write_text(OBJECTS)
    return DirectoryStore(folder)


@pytest.fixture
def cluster() -> ToldCluster:
    return ToldCluster()


@pytest.fixture
def client(new_app: NewApp, cluster: ToldCluster) -> FlaskClient:
    now = [0.0]
    runtime = told_runtime(cluster, cooldown=Cooldown(30.0, lambda: now[0]))
    found = new_app(None, runtime=runtime).test_client()
    found.now = now  # type: ignore[attr-defined]
    return found


def asked(client: FlaskClient, path: str, key: str = "admin") -> tuple[int, Any]:
    answer = client.get(path, headers={"x-api-key": key})
    return answer.status_code, answer.json


def restart(client: FlaskClient, body: Any, key: str = "admin", path: str = RESTART) -> Any:
    return client.post(path, json=body, headers={"x-api-key": key})


def runs(revision: str, *, is_ready: bool = True, ready: int = 1) -> ServerState:
    return ServerState(
        namespace="mcp-servers",
        name="shop",
        endpoint="http://127.0.0.1:8091/mcp",
        ready=ready,
        wanted=1,
        cluster="",
        sidecars=(SidecarState(name="sidecar", revision=revision, is_ready=is_ready),),
    )


def digest(client: FlaskClient) -> str:
    return str(asked(client, "/api/runtime/policy?server=shop")[1]["content_digest"])


@SPELLINGS
def test_servers(client: FlaskClient, cluster: ToldCluster, mount: str) -> None:
    """Each with the members that existing tools read, and what counts for it."""
    cluster.running = [runs(digest(client))]
    status, body = asked(client, f"{mount}/runtime/servers")
    assert status == 200
    (server,) = body["servers"]
    assert server.keys() >= SERVER_MEMBERS
    assert (server["name"], server["namespace"], server["ready"]) == ("shop", "mcp-servers", "1/1")
    assert (server["status"], server["message"]) == ("Ready", "")
    assert [tool["name"] for tool in server["tools"]] == ["list"]
    client_configuration = json.loads(server["access_json"])["mcpServers"]["shop"]
    assert client_configuration["url"] == server["endpoint"]
    counted = ("grants", "active_grants", "sessions", "active_sessions")
    assert [server[name] for name in counted] == [3, 1, 1, 1]
    (enforced,) = server["enforced"]
    assert enforced == {
        "sidecar": "sidecar",
        "ready": True,
        "policy_revision": server["policy_revision"],
        "current": True,
    }


@pytest.mark.parametrize(
    ("running", "status", "said"),
    [
        ([runs("sha256:older")], "Degraded", "not with the current policy: sidecar"),
        ([runs("x", is_ready=False)], "NotReady", "no sidecar decides its calls"),
        ([runs("x", ready=0)], "NotReady", "does not answer"),
        ([], "NotReady", "nobody tells where it runs"),
    ],
)
def test_a_server_that_is_not_well(
    client: FlaskClient, cluster: ToldCluster, running: list[ServerState], status: str, said: str
) -> None:
    """Its status is one of mcp-runtime's words, and the message says what is wrong."""
    cluster.running = running
    (server,) = asked(client, "/api/runtime/servers")[1]["servers"]
    assert server["status"] == status
    assert said in server["message"]


def test_servers_whose_state_cannot_be_asked(client: FlaskClient, cluster: ToldCluster) -> None:
    """They are listed all the same, and say why nothing more is known."""
    cluster.fault = "the supervisor is away"
    (server,) = asked(client, "/api/runtime/servers")[1]["servers"]
    assert (server["status"], server["message"]) == ("NotReady", "the supervisor is away")


def test_servers_of_the_caller_s_namespaces(client: FlaskClient) -> None:
    """Another's namespace is forbidden; `*` and nothing mean what the caller reaches."""

    def names(query: str, key: str) -> Any:
        status, body = asked(client, f"/api/runtime/servers{query}", key)
        return [each["name"] for each in body["servers"]] if status == 200 else status

    assert names("", "admin") == ["shop"]
    assert names("?namespace=*", "admin") == ["shop", "bank"]
    assert names("?namespace=team-a", "admin") == ["bank"]
    for query in ("", "?namespace=*", "?namespace=team-a", "?namespace="):
        assert names(query, "team-a") == ["bank"]
    assert names("?namespace=mcp-servers", "team-a") == 403
    assert names("?namespace=nowhere", "team-a") == 403
    assert names("?namespace=nowhere", "admin") == []
    assert names("", "ingest") == 403
    assert names("", "nobody") == 401
    message = asked(client, "/api/runtime/servers?namespace=mcp-servers", "team-a")[1]["message"]
    assert message.startswith("forbidden namespace")


@SPELLINGS
def test_policy(client: FlaskClient, mount: str) -> None:
    """The document's members, the same as text, and where it comes from."""
    status, body = asked(client, f"{mount}/runtime/policy?namespace=mcp-servers&server=shop")
    assert status == 200
    document = json.loads(body["json"])
    assert {name: body[name] for name in document} == document
    assert body.keys() - document.keys() == {"json", "source"}
    assert [grant["name"] for grant in document["grants"]] == ["live", "over", "team-b/admitted"]
    assert asked(client, f"{mount}/runtime/policy?server=shop")[0] == 200
    assert asked(client, f"{mount}/runtime/policy?server=gone")[0] == 404


def test_policy_is_for_who_governs_the_namespace(client: FlaskClient) -> None:
    """It names every subject and session: readers and other namespaces' users get none."""
    of_bank = "/api/runtime/policy?namespace=team-a&server=bank"
    assert asked(client, of_bank, "team-a")[0] == 200
    assert asked(client, of_bank, "reader")[0] == 403
    status, body = asked(client, "/api/runtime/policy?server=shop", "team-a")
    assert status == 403
    assert body["message"].startswith("forbidden namespace")
    # Whether it exists is not told either.
    assert asked(client, "/api/runtime/policy?namespace=x&server=y", "team-a")[0] == 403


def test_policy_needs_a_server(client: FlaskClient) -> None:
    """Without one the parameter is named."""
    status, body = asked(client, "/api/runtime/policy")
    assert (status, body["error"], body["field"]) == (400, "invalid_query_param", "server")


def test_objects_that_make_no_policy(new_app: NewApp, tmp_path: Path) -> None:
    """The server is listed as not ready; its policy is told as a conflict, with the fault."""
    same_header = "spec:\n  auth: {humanIDHeader: X-Id, agentIDHeader: X-Id}\n  policy"
    (tmp_path / "objects.yaml").write_text(OBJECTS.replace("spec:\n  policy", same_header))
    client = new_app(None, access=DirectoryStore(tmp_path)).test_client()
    (server,) = asked(client, "/api/runtime/servers")[1]["servers"]
    assert server["status"] == "NotReady"
    assert "two identities come from one header; name four headers" in server["message"]
    status, body = asked(client, "/api/runtime/policy?server=shop")
    assert (status, body["error"]) == (409, "conflict")
    assert "two identities come from one header" in body["message"]


@SPELLINGS
def test_components(client: FlaskClient, mount: str) -> None:
    """mcp-runtime's five in its order, and version, uptime, lag and last error of each."""
    status, body = asked(client, f"{mount}/runtime/components")
    assert status == 200
    found = {each["key"]: each for each in body["components"]}
    assert list(found) == ["ingest", "processor", "api", "ui", "gateway"]
    assert all(each.keys() >= COMPONENT_MEMBERS for each in found.values())
    statuses = [each["status"] for each in found.values()]
    assert statuses == ["Ready", "Ready", "Ready", "NotDeployed", "Unknown"]
    processor = found["processor"]
    assert (processor["version"], processor["lag"], processor["last_error"]) == ("1.2.3", 7, "")
    assert processor["uptime_seconds"] == int(NOON.timestamp() - 1795258800)
    assert found["gateway"]["uptime_seconds"] is None
    assert found["gateway"]["message"]


def test_components_are_for_admins(client: FlaskClient) -> None:
    """Who reads some namespaces learns nothing of what serves them all."""
    answers = [asked(client, "/api/runtime/components", key)[0] for key in ("team-a", "ingest")]
    assert answers == [403, 403]
    assert asked(client, "/api/runtime/components", "reader")[0] == 200


@SPELLINGS
def test_restart(client: FlaskClient, cluster: ToldCluster, mount: str) -> None:
    """One component, or all that run, recorded before they are restarted."""
    path = f"{mount}/runtime/actions/restart"
    answer = restart(client, {"component": "ingest"}, path=path)
    assert (answer.status_code, answer.json) == (200, {"success": True, "component": "ingest"})
    assert cluster.restarted == ["ingest"]
    (recorded,) = cluster.recorded
    assert (recorded.component, recorded.all) == ("ingest", False)
    assert recorded.actor
    client.now[0], cluster.restarted, cluster.recorded = 60.0, [], []  # type: ignore[attr-defined]
    answer = restart(client, {"all": True}, path=path)
    assert (answer.status_code, answer.json) == (200, {"success": True, "restarted": "all"})
    assert cluster.restarted == ["ingest", "processor", "api"]
    told = [Restart(key, recorded.actor, all=True) for key in cluster.restarted]
    assert cluster.recorded == told


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        ({}, 400, "component_required", "component required"),
        ({"component": ""}, 400, "component_required", "component required"),
        ({"component": "ui", "all": True}, 400, "component_required", "component required"),
        ({"all": False}, 400, "component_required", "component required"),
        ({"component": "zookeeper"}, 400, "unknown_component", "unknown component"),
        ({"component": 1}, 400, "invalid_body", "component: expected `str`"),
        ({"components": "ui"}, 400, "invalid_body", "components: is not a known field"),
        ({"component": "ui"}, 404, "not_found", "the component `ui` is not deployed"),
        ({"component": "sidecar"}, 404, "not_found", "the component `sidecar` is not deployed"),
        ({"component": "gateway"}, 409, "conflict", "`gateway` cannot be restarted from here"),
    ],
)
def test_a_restart_that_cannot_be(
    client: FlaskClient, cluster: ToldCluster, body: Any, status: int, code: str, message: str
) -> None:
    """It is refused with a code, what is wrong and the mend; nothing is recorded or restarted."""
    answer = restart(client, body)
    assert (answer.status_code, answer.json["error"]) == (status, code)
    assert answer.json["message"].startswith(message)
    assert not cluster.recorded
    assert not cluster.restarted


def test_a_component_cools_down(client: FlaskClient, cluster: ToldCluster) -> None:
    """It is restarted once in a while, others at once; then it may be again."""
    assert restart(client, {"component": "ingest"}).status_code == 200
    client.now[0] = 12.5  # type: ignore[attr-defined]
    for body in ({"component": "ingest"}, {"all": True}):
        answer = restart(client, body)
        assert (answer.status_code, answer.json["error"]) == (429, "restart_too_soon")
        assert answer.headers["Retry-After"] == "18"
        assert answer.json["mend"] == "try again in 18 s"
    assert restart(client, {"component": "processor"}).status_code == 200
    client.now[0] = 30.0  # type: ignore[attr-defined]
    assert restart(client, {"component": "ingest"}).status_code == 200
    assert cluster.restarted == ["ingest", "processor", "ingest"]


def test_what_is_not_restarted_does_not_cool_down(
    client: FlaskClient, cluster: ToldCluster
) -> None:
    """Where the trail or the cluster is away nothing happens, and it may be tried at once."""
    cluster.record_fault = "the log is away"
    assert restart(client, {"component": "ingest"}).status_code == 503
    assert not cluster.restarted
    cluster.record_fault, cluster.fault = "", "the supervisor is away"
    assert restart(client, {"component": "ingest"}).status_code == 503
    cluster.fault = ""
    assert restart(client, {"component": "ingest"}).status_code == 200


def test_restarts_are_for_who_operates_everywhere(
    client: FlaskClient, cluster: ToldCluster
) -> None:
    """A user, a reader and a stranger restart nothing."""
    answers = [restart(client, {"all": True}, key).status_code for key in ("user", "reader", "x")]
    assert answers == [403, 403, 401]
    assert not cluster.restarted


def test_a_degraded_component_is_told_with_its_message(
    client: FlaskClient, cluster: ToldCluster
) -> None:
    """Whatever the cluster tells of it arrives."""
    cluster.set("ingest", status=Status.DEGRADED, message="event_log: full", last_error="full")
    found = asked(client, "/api/runtime/components")[1]["components"][0]
    told = (found["status"], found["message"], found["last_error"])
    assert told == ("Degraded", "event_log: full", "full")

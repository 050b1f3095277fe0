"""Each governance row that existing tools depend on, in both spellings."""

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.adapters.directory import DirectoryStore
from tests.unit.backend.api.conftest import NewApp

ADMIN = {"x-api-key": "admin"}
SERVERS = """
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: shop, namespace: mcp-servers}
spec: {tools: [{name: list}, {name: refund, requiredTrust: high, sideEffect: destructive}]}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: shop, namespace: team-a}
spec: {tools: [{name: list}]}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: bank, namespace: team-b}
spec: {}
"""
GRANT = {"name": "g", "serverRef": {"name": "shop"}, "subject": {"agentID": "ops"}}
SESSION = {"name": "s", "serverRef": {"name": "shop"}, "subject": {"humanID": "ann"}}
REF = {"name": "shop", "namespace": "mcp-servers"}
G = {
    "name": "g", "namespace": "mcp-servers", "serverRef": REF, "subject": {"agentID": "ops"},
    "maxTrust": "low", "disabled": False, "policyVersion": "v1",
}  # fmt: skip
A = {
    "name": "s", "namespace": "mcp-servers", "serverRef": REF, "subject": {"humanID": "ann"},
    "consentedTrust": "low", "revoked": False, "policyVersion": "v1",
}  # fmt: skip
KINDS = [
    ("grants", "grant", GRANT, G, "disabled", ("disable", "enable")),
    ("sessions", "session", SESSION, A, "revoked", ("revoke", "unrevoke")),
]
EACH = pytest.mark.parametrize(
    ("nouns", "noun", "sent", "form", "flag", "verbs"), KINDS, ids=["grants", "sessions"]
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An access directory with servers alone."""
    (tmp_path / "servers.yaml").write_text(SERVERS)
    return tmp_path


@pytest.fixture
def client(folder: Path, new_app: NewApp) -> FlaskClient:
    return new_app(None, access=DirectoryStore(folder)).test_client()


@pytest.fixture(params=["/api", "/api/v1"])
def at(request: pytest.FixtureRequest) -> str:
    """Where the routes lie."""
    return f"{request.param}/runtime"


def asked(client: FlaskClient, method: str, path: str, body: Any = None, **headers: str) -> Any:
    answer = client.open(path, method=method, json=body, headers=ADMIN | headers)
    assert (answer.status_code, answer.mimetype) == (200, "application/json"), answer.text
    return answer.json


def refused(client: FlaskClient, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """Status, code, field and message of a problem."""
    answer = client.open(path, method=method, json=body, headers=ADMIN | headers)
    problem = answer.get_json(force=True)
    assert answer.mimetype == "application/problem+json"
    assert all(isinstance(member, str) for member in problem.values())
    return answer.status_code, problem["error"], problem.get("field", ""), problem["message"]


@EACH
def test_made_shown_listed_and_deleted(
    client: FlaskClient, at: str, nouns: str, noun: str, sent: Any, form: Any, flag: str, verbs: Any
) -> None:
    """Defaults as existing tools expect them; the age is when it was made."""
    path = f"{at}/{nouns}"
    assert asked(client, "GET", path) == {nouns: []}
    made = asked(client, "POST", path, sent)[noun]
    assert made.pop("age").endswith("Z")
    assert made == form
    one = f"{path}/mcp-servers/{sent['name']}"
    shown = asked(client, "GET", one)
    assert shown[noun].items() >= form.items()
    assert asked(client, "GET", path) == {nouns: [shown[noun]]}
    assert asked(client, "GET", f"{path}?namespace=") == {nouns: [shown[noun]]}
    assert asked(client, "GET", f"{path}?namespace=else") == {nouns: []}
    gone = asked(client, "DELETE", one)
    assert gone == {"success": True, "name": sent["name"], "namespace": "mcp-servers"}
    assert asked(client, "GET", path) == {nouns: []}
    for method in ("GET", "DELETE"):
        assert refused(client, method, one)[:2] == (404, "not_found")


@EACH
def test_switched_off_and_on(
    client: FlaskClient, at: str, nouns: str, noun: str, sent: Any, form: Any, flag: str, verbs: Any
) -> None:
    """By an action or by PATCH; twice is as well as once."""
    asked(client, "POST", f"{at}/{nouns}", sent)
    one = f"{at}/{nouns}/mcp-servers/{sent['name']}"
    said = {"success": True, "name": sent["name"], "namespace": "mcp-servers"}
    off, on = verbs
    for verb, value in ((off, True), (off, True), (on, False), (on, False)):
        answer = asked(client, "POST", f"{one}/{verb}")
        assert answer.items() >= (said | {flag: value}).items()
        assert asked(client, "GET", one)[noun][flag] is value
    for value in (True, False):
        answer = asked(client, "PATCH", one, {flag: value})
        assert answer.items() >= (said | {flag: value}).items()
    for verb in verbs:
        assert refused(client, "POST", f"{one}x/{verb}")[:2] == (404, "not_found")
    assert refused(client, "PATCH", f"{one}x", {flag: True})[:2] == (404, "not_found")


@EACH
def test_post_replaces_and_keeps_what_is_off(
    client: FlaskClient, at: str, nouns: str, noun: str, sent: Any, form: Any, flag: str, verbs: Any
) -> None:
    """What is left out is taken away, but for the flag."""
    more = {"expiresAt": "2030-01-01T00:00:00Z", "policyVersion": "v2", flag: True}
    asked(client, "POST", f"{at}/{nouns}", sent | more)
    again = asked(client, "POST", f"{at}/{nouns}", sent)[noun]
    assert again == form | {flag: True, "age": again["age"]}
    assert asked(client, "POST", f"{at}/{nouns}", sent | {flag: False})[noun][flag] is False


@EACH
def test_what_get_gives_post_takes(
    client: FlaskClient, at: str, nouns: str, noun: str, sent: Any, form: Any, flag: str, verbs: Any
) -> None:
    """Whole, its age included: nothing is lost on the way."""
    more = {"expiresAt": "2030-01-01T00:00:00Z", "namespace": "team-a"}
    if noun == "grant":
        rules = [{"name": "list", "decision": "allow", "requiredTrust": "high"}]
        more |= {"toolRules": rules, "allowedSideEffects": ["read"], "maxTrust": "high"}  # type: ignore[dict-item]
    asked(client, "POST", f"{at}/{nouns}", sent | more)
    shown = asked(client, "GET", f"{at}/{nouns}/team-a/{sent['name']}")[noun]
    assert asked(client, "POST", f"{at}/{nouns}", shown)[noun] == shown


BAD = [
    # members, field, what the message says
    ({"name": "Bad_Name"}, "name", "is not a Kubernetes name"),
    ({"name": "a..b"}, "name", "is not a Kubernetes name"),
    ({"name": "a.-b"}, "name", "is not a Kubernetes name"),
    ({"name": "a" * 254}, "name", "is not a Kubernetes name"),
    ({"namespace": "Bad"}, "namespace", "is not a Kubernetes name"),
    ({"subject": {}}, "subject", "set humanID, agentID or teamID"),
    ({"subject": {"agentID": ""}}, "subject", "names nobody"),
    ({"maxTrust": "hihg"}, "maxTrust", "use low, medium or high"),
    ({"toolRules": [{"name": "a", "decision": "alow"}]}, "toolRules[0].decision", "allow or deny"),
    ({"toolRules": [{"name": "list"}, {"name": "list"}]}, "toolRules[1].name", "keep one"),
    ({"toolRules": "list:allow\nrefund:alow"}, "toolRules: line 2", "did you mean `allow`?"),
    ({"toolRules": "list:allow\n\nlist:deny"}, "toolRules: line 3", "second rule"),
    ({"toolRules": ["list:allow", "refund:allow:hihg"]}, "toolRules[1]", "did you mean `high`?"),
    ({"toolRules": [{"name": "list", "decison": "deny"}]}, "toolRules[0].decison", "`decision`"),
    ({"allowedSideEffects": ["raed"]}, "allowedSideEffects[0]", "read, write or destructive"),
    ({"allowedSideEffects": []}, "allowedSideEffects", "leave it out to allow all"),
    ({"expiresAt": "tomorrow"}, "expiresAt", "write it like 2026"),
    ({"disabled": "yes"}, "disabled", "write it as /api/docs says"),
    ({"serverRef": {"name": "shp"}}, "serverRef", "did you mean `mcp-servers/shop`?"),
    ({"serverRef": {"name": "bank", "namespace": "team-b"}}, "serverRef", "does not count"),
    ({"serverRef": {}}, "serverRef.name", "is required"),
    ({"maxTrus": "low"}, "maxTrus", "did you mean `maxTrust`?"),
    ({"subject": {"agentId": "x"}}, "subject.agentId", "did you mean `agentID`?"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "field", "said"), BAD)
def test_bad_grants(
    client: FlaskClient, at: str, folder: Path, members: Any, field: str, said: str
) -> None:
    """Refused with the member's name and the mend; nothing is written."""
    status, code, where, message = refused(client, "POST", f"{at}/grants", GRANT | members)
    assert (status, code, where) == (400, "invalid_body", field)
    assert said in message
    assert [path.name for path in folder.iterdir() if path.suffix == ".yaml"] == ["servers.yaml"]


def test_a_grant_without_name_server_or_subject(client: FlaskClient, at: str) -> None:
    """Each is asked for by its name."""
    for name in ("name", "serverRef", "subject"):
        body = {key: value for key, value in GRANT.items() if key != name}
        found = refused(client, "POST", f"{at}/grants", body)
        assert found[:3] == (400, "invalid_body", name)


def test_too_much_or_ambiguous(client: FlaskClient, at: str) -> None:
    """A body beyond 64 KiB, and one that holds a key twice."""
    head = ADMIN | {"Content-Type": "application/json"}
    large = client.post(f"{at}/grants", data=b'{"name":"' + b"x" * (64 << 10) + b'"}', headers=head)
    assert large.status_code == 413
    twice = client.post(f"{at}/grants", data=b'{"name":"a","name":"b"}', headers=head)
    assert (twice.status_code, twice.get_json(force=True)["error"]) == (400, "invalid_json")


def test_rules_as_lines_or_objects(client: FlaskClient, at: str) -> None:
    """As a text, as a list of lines, and mixed."""
    wanted = [
        {"name": "list", "decision": "allow"},
        {"name": "refund", "decision": "allow", "requiredTrust": "high"},
    ]
    for rules in (
        "list:allow\r\n\n refund:allow:high\n",
        ["list:allow", "refund:allow:high"],
        [wanted[0], "refund:allow:high"],
        wanted,
    ):
        body = GRANT | {"toolRules": rules, "maxTrust": "high"}
        assert asked(client, "POST", f"{at}/grants", body)["grant"]["toolRules"] == wanted


def test_filters_and_paging(client: FlaskClient, at: str) -> None:
    """By namespace, server, human and agent; each page begins where the last one ended."""
    for name, subject in (
        ("a", {"agentID": "x"}),
        ("b", {"humanID": "h"}),
        ("c", {"agentID": "y"}),
    ):
        asked(client, "POST", f"{at}/grants", GRANT | {"name": name, "subject": subject})
    own = {"name": "d", "namespace": "team-b", "serverRef": {"name": "bank"}}
    asked(client, "POST", f"{at}/grants", GRANT | own)

    def names(query: str) -> list[str]:
        return [each["name"] for each in asked(client, "GET", f"{at}/grants?{query}")["grants"]]

    assert names("") == ["a", "b", "c", "d"]
    assert names("namespace=team-b") == ["d"]
    assert names("server=shop&agent_id=x") == ["a"]
    assert names("human_id=h") == ["b"]
    page = asked(client, "GET", f"{at}/grants?limit=3")
    assert ([each["name"] for each in page["grants"]], page["next"]) == (
        ["a", "b", "c"],
        "mcp-servers/c",
    )
    rest = asked(client, "GET", f"{at}/grants?limit=3&after={page['next']}")
    assert ([each["name"] for each in rest["grants"]], rest.get("next")) == (["d"], None)
    assert refused(client, "GET", f"{at}/grants?after=x")[2] == "after"
    assert refused(client, "GET", f"{at}/grants?agent=x")[2] == "agent"


def test_versions(client: FlaskClient, at: str) -> None:
    """`ETag` comes with an object and changes with it; `If-Match` refuses another one."""
    path, one = f"{at}/grants", f"{at}/grants/mcp-servers/g"
    first = client.post(path, json=GRANT, headers=ADMIN).headers["ETag"]
    assert client.get(one, headers=ADMIN).headers["ETag"] == first
    second = client.patch(one, json={"disabled": True}, headers=ADMIN | {"If-Match": first})
    assert second.headers["ETag"] not in ("", first)
    for method, at_, body in (
        ("PATCH", one, {"disabled": False}),
        ("POST", path, GRANT),
        ("DELETE", one, None),
        ("POST", f"{one}/enable", None),
        ("DELETE", f"{one}?dryRun=true", None),
    ):
        found = refused(client, method, at_, body, **{"If-Match": first})
        assert found[:3] == (412, "precondition_failed", "If-Match")
    assert asked(client, "GET", one)["grant"]["disabled"] is True
    assert refused(client, "DELETE", one, **{"If-Match": "W/x"})[0] == 400
    last = client.get(one, headers=ADMIN).headers["ETag"]
    assert asked(client, "DELETE", one, **{"If-Match": last})["success"]
    assert refused(client, "POST", path, GRANT, **{"If-Match": last})[0] == 412


def test_made_but_not_replaced(client: FlaskClient, at: str) -> None:
    """`If-None-Match: *` is for who means to make a new one."""
    new = {"If-None-Match": "*"}
    asked(client, "POST", f"{at}/grants", GRANT, **new)
    found = refused(client, "POST", f"{at}/grants", GRANT | {"maxTrust": "high"}, **new)
    assert found[:3] == (412, "precondition_failed", "If-None-Match")
    assert refused(client, "POST", f"{at}/grants", GRANT, **{"If-None-Match": "x"})[0] == 400


def test_patches(client: FlaskClient, at: str) -> None:
    """Members change, null takes them away, nothing at all changes nothing."""
    asked(client, "POST", f"{at}/grants", GRANT | {"expiresAt": "2030-01-01T00:00:00Z"})
    one = f"{at}/grants/mcp-servers/g"
    patch = {
        "maxTrust": "high",
        "expiresAt": None,
        "toolRules": "list:deny",
        "subject": {"teamID": "t"},
    }
    grant = asked(client, "PATCH", one, patch)["grant"]
    assert "expiresAt" not in grant
    assert (grant["maxTrust"], grant["subject"]) == ("high", {"agentID": "ops", "teamID": "t"})
    assert grant["toolRules"] == [{"name": "list", "decision": "deny"}]
    assert asked(client, "PATCH", one, {})["grant"] == grant
    assert (
        refused(client, "PATCH", one, {"subject": {"agentID": None, "teamID": ""}})[2] == "subject"
    )
    assert refused(client, "PATCH", one, {"name": "h"})[2] == "name"
    assert refused(client, "PATCH", one, {"serverRef": {"name": "none"}})[2] == "serverRef"


def test_warnings(client: FlaskClient, at: str) -> None:
    """What has no effect, or too much, is made and said."""
    rules = {"toolRules": ["lst:allow", "refund:allow"], "expiresAt": "2020-01-01T00:00:00Z"}
    said = asked(client, "POST", f"{at}/grants", GRANT | rules)["warnings"]
    assert [each.partition(":")[0] for each in said] == [
        "expiresAt", "toolRules[0].name", "toolRules[1]",
    ]  # fmt: skip
    assert "did you mean `list`?" in said[1]
    assert "never allows `refund`" in said[2]
    deny = asked(client, "POST", f"{at}/grants", GRANT | {"toolRules": "list:deny"})
    assert "has deny rules alone" in deny["warnings"][0]
    assert "warnings" not in asked(
        client, "POST", f"{at}/grants", GRANT | {"toolRules": "list:allow"}
    )


def test_who_may_change_what(client: FlaskClient, at: str) -> None:
    """A user in its own namespaces, in the words that tools look for; who only reads, nothing."""
    own, other = GRANT | {"namespace": "team-a"}, GRANT | {"namespace": "team-b"}
    user = {"x-api-key": "team-a"}
    asked(client, "POST", f"{at}/grants", GRANT)
    asked(client, "POST", f"{at}/grants", own, **user)
    asked(client, "POST", f"{at}/grants/team-a/g/disable", **user)
    assert [g["namespace"] for g in asked(client, "GET", f"{at}/grants", **user)["grants"]] == [
        "team-a"
    ]
    for method, path, body in (
        ("POST", "grants", other),
        ("POST", "grants", GRANT),
        ("GET", "grants/mcp-servers/g", None),
        ("PATCH", "grants/mcp-servers/g", {"disabled": True}),
        ("DELETE", "grants/mcp-servers/none", None),
        ("POST", "grants/mcp-servers/g/disable", None),
        ("GET", "grants?namespace=mcp-servers", None),
    ):
        status, code, _, message = refused(client, method, f"{at}/{path}", body, **user)
        assert (status, code) == (403, "forbidden")
        assert message.startswith("forbidden namespace")
    assert refused(client, "POST", f"{at}/grants", own, **{"x-api-key": "reader"})[0] == 403
    assert refused(client, "POST", f"{at}/grants", own, **{"x-api-key": "ingest"})[0] == 403
    assert refused(client, "POST", f"{at}/grants", own, **{"x-api-key": "none"})[0] == 401


def test_another_s_servers_are_not_told(client: FlaskClient, at: str) -> None:
    """Whether they exist or not, the answer is the same."""
    messages = set()
    for name in ("shop", "none"):
        ref = {"serverRef": {"name": name, "namespace": "mcp-servers"}, "namespace": "team-a"}
        found = refused(client, "POST", f"{at}/grants", GRANT | ref, **{"x-api-key": "team-a"})
        assert found[:3] == (400, "invalid_body", "serverRef")
        messages.add(found[3].replace(name, "x"))
    assert len(messages) == 1
    ref = {"serverRef": {"name": "bnk"}, "namespace": "team-a"}
    for key, is_told in (("admin", True), ("team-a", False)):
        found = refused(client, "POST", f"{at}/grants", GRANT | ref, **{"x-api-key": key})
        assert ("team-b/bank" in found[3]) is is_told

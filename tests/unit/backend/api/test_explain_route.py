"""Explanations over a real store and a real access directory."""

from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import orjson
import pytest
import yaml
from flask.testing import FlaskClient

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.adapters.directory import DirectoryStore
from backend.api.app import create_app
from backend.auth.api_keys import ADMIN, NOWHERE, USER, ApiKey, ApiKeys, digest_of
from backend.auth.principal import Principal, Scope
from backend.metrics import ApiMetrics, new_registry
from backend.ports.event_log import Position, Record
from backend.processor.rows import read_records
from extauthz.core.compile import compile_document
from extauthz.core.decide import Snapshot
from extauthz.core.decision import Decision, Effect
from extauthz.core.events import Asked, call_payload
from extauthz.core.governance import Action, Change, Key, change_payload, server_of
from extauthz.core.model import MCPAccessGrant, MCPServer
from extauthz.core.reasons import Reason
from extauthz.core.render import render
from extauthz.core.request import Call, Identity
from extauthz.core.resources import parse_object
from extauthz.core.writing import to_object
from tests.tools.told_cluster import told_runtime

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEYS = {"x-api-key": "admin"}
BOB = Identity(human_id="bob", agent_id="a")
Written = dict[str, Any]


def written(kind: str, name: str, spec: Written) -> Written:
    head = {"apiVersion": "mcpruntime.org/v1alpha1", "kind": kind}
    return {**head, "metadata": {"name": name, "namespace": "ns"}, "spec": spec}


SERVER = written(
    "MCPServer",
    "srv",
    {"tools": [{"name": "wipe", "sideEffect": "destructive", "requiredTrust": "high"}]},
)


def grant(name: str = "g", **spec: Any) -> Written:
    base = {"serverRef": {"name": "srv"}, "subject": {"humanID": "bob", "agentID": "a"}}
    return written("MCPAccessGrant", name, base | spec)


def policy(*grants: Written, at: datetime = NOON, cluster: str = "") -> Snapshot:
    """What a sidecar runs while these objects stand there."""
    server, *found = (parse_object(each) for each in (SERVER, *grants))
    assert isinstance(server, MCPServer)
    document = render(
        server,
        [each for each in found if isinstance(each, MCPAccessGrant)],
        [],
        generated_at="2026-11-22T12:00:00Z",
        cluster=cluster,
    )
    return Snapshot.of(compile_document(document), at.timestamp())


class Trail:
    """Writes events into the store as the processor does."""

    def __init__(self, store: ClickHouseStore) -> None:
        self._store, self._offsets = store, count()

    def call(
        self,
        snapshot: Snapshot,
        at: datetime = NOON,
        *,
        who: Identity = BOB,
        tool: str = "wipe",
        request_id: str = "r1",
    ) -> str:
        """A decided call; its event's id."""
        call = Call(method="tools/call", tool=tool)
        decision = snapshot.decide_call(call, who, None, at.timestamp())
        return self.decided(decision, at, request_id)

    def decided(self, decision: Decision, at: datetime = NOON, request_id: str = "r1") -> str:
        asked = Asked("POST", "/mcp", request_id)
        payload = call_payload(decision, asked, gateway="gw", gateway_start="", sequence=0)
        return self._insert("mcp.request", msgspec.to_builtins(payload), at)

    def foreign(self, payload: Written) -> None:
        """What some application sends."""
        self._insert("app.note", payload, NOON + HOUR)

    def change(self, before: Written | None, after: Written | None, at: datetime) -> None:
        old, new = (each and to_object(parse_object(each)) for each in (before, after))
        known = new or old
        assert known is not None
        key = Key(known["kind"], "ns", known["metadata"]["name"])
        change = Change(key, Action.CHANGED, "file", server_of(known), old, new)
        self._insert("governance.change", change_payload(change), at)

    def _insert(self, event_type: str, payload: Written, at: datetime) -> str:
        offset = next(self._offsets)
        event_id = str(UUID(int=offset + 1))
        envelope = {
            "event_id": event_id,
            "timestamp": at.isoformat(),
            "source": "s",
            "event_type": event_type,
            "payload": payload,
        }
        record = Record(Position(UUID(int=7), 0, offset), orjson.dumps(envelope))
        rows, letters = read_records([record])
        assert not letters
        self._store.insert(rows)
        return event_id


@pytest.fixture
def store(emptied: ClickHouseStore) -> ClickHouseStore:
    return emptied


@pytest.fixture
def trail(store: ClickHouseStore) -> Trail:
    return Trail(store)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The access directory as it stands now."""
    made = tmp_path / "access"
    made.mkdir()
    put(made, SERVER)
    return made


def put(folder: Path, *objects: Written) -> None:
    for each in objects:
        (folder / f"{each['metadata']['name']}.yaml").write_text(yaml.safe_dump(each))


@pytest.fixture
def client(store: ClickHouseStore, folder: Path) -> FlaskClient:
    principals = [
        Principal("admin", ADMIN),
        Principal("reader", frozenset({Scope.READ})),
        Principal("sender", frozenset({Scope.INGEST})),
        Principal("oidc:bob", USER, NOWHERE, subject="bob", email="bob@example.com"),
        Principal("oidc:eve", USER, NOWHERE, subject="eve"),
        Principal("oidc:nora", USER, frozenset({"ns"}), subject="nora"),
        Principal("oidc:bot", USER, NOWHERE, subject="a"),
    ]
    keys = [ApiKey(digest_of(each.name.removeprefix("oidc:")), each) for each in principals]
    app = create_app(
        store=store,
        access=DirectoryStore(folder),
        changes=None,  # type: ignore[arg-type]  # nothing is changed here
        runtime=told_runtime(),
        verifier=ApiKeys(keys),
        metrics=ApiMetrics(new_registry()),
        clock=lambda: NOON + 24 * HOUR,
        retention=None,
    )
    return app.test_client()


def get(client: FlaskClient, asked: str, key: str = "admin", mount: str = "/api") -> Any:
    return client.get(f"{mount}/runtime/explain/{asked}", headers={"x-api-key": key})


def ask(client: FlaskClient, key: str = "admin", mount: str = "/api", **body: Any) -> Any:
    return client.post(f"{mount}/runtime/explain", json=body, headers={"x-api-key": key})


@pytest.mark.parametrize("mount", ["/api", "/api/v1"])
def test_yesterdays_decision_by_yesterdays_policy(
    client: FlaskClient, trail: Trail, folder: Path, mount: str
) -> None:
    """The rows tell the old policy, whose revision is proven; beside it what holds now."""
    old, new = grant(maxTrust="low"), grant(maxTrust="high")
    trail.change(None, SERVER, NOON - HOUR)
    trail.change(None, old, NOON - HOUR)
    trail.change(old, new, NOON + HOUR)
    put(folder, new)
    event_id = trail.call(policy(old))
    answer = get(client, "r1", mount=mount)
    assert answer.status_code == 200
    told = answer.json
    assert told["event_id"] == event_id
    assert told["request_id"] == "r1"
    assert told["time"] == "2026-11-22T12:00:00.000Z"
    assert (told["decision"]["effect"], told["decision"]["reason"]) == ("deny", "trust_too_low")
    assert told["failed"]["row"] == "10"
    assert told["failed"]["detail"] == "trust_too_low: `wipe` needs high, effective is low"
    rows = [row["row"] for row in told["decision"]["explanation"]]
    assert rows == ["1", "2", "2a", "2b", "3", "3a", "4", "5", "5a", "6", "6a", "7", "8", "9",
                    "10", "grant ns/g"]  # fmt: skip
    assert told["policy"]["match"] == "exact"
    assert told["policy"]["revision"] == policy(old).facts.revision
    assert "rebuilt_revision" not in told["policy"]
    assert told["now"] == {
        "effect": "allow",
        "reason": "allowed",
        "revision": policy(new).facts.revision,
    }
    assert "smallest_change" not in told
    assert "disagrees" not in told


def test_a_call_by_its_event_id(client: FlaskClient, trail: Trail) -> None:
    """A decision's id is its event's."""
    event_id = trail.call(policy())
    assert get(client, event_id).json["event_id"] == event_id
    assert get(client, event_id.upper()).json["event_id"] == event_id


def test_of_several_calls_the_newest(client: FlaskClient, trail: Trail) -> None:
    """The others are named, newest first; each can be asked for."""
    first, second, last = (trail.call(policy(), NOON + HOUR * n) for n in range(3))
    told = get(client, "r1").json
    assert (told["event_id"], told["other_events"]) == (last, [second, first])


def test_an_edit_that_was_noticed_late_is_found_by_its_revision(
    client: FlaskClient, trail: Trail
) -> None:
    """The decision point was some seconds faster than the watch."""
    old, new = grant(maxTrust="low"), grant(disabled=True)
    trail.change(None, SERVER, NOON - HOUR)
    trail.change(None, old, NOON - HOUR)
    trail.change(old, new, NOON + timedelta(seconds=3))
    trail.call(policy(new))
    told = get(client, "r1").json
    assert told["decision"]["reason"] == "grant_disabled"
    assert told["policy"]["match"] == "exact"


def test_a_revision_that_does_not_fit_is_said(client: FlaskClient, trail: Trail) -> None:
    """The nearest policy that is known, and that it is not the one."""
    trail.change(None, SERVER, NOON - HOUR)
    trail.change(None, grant(maxTrust="high"), NOON - HOUR)
    trail.call(policy(grant(maxTrust="low")))
    told = get(client, "r1").json
    assert told["policy"]["match"] == "nearest"
    assert told["policy"]["revision"] != told["policy"]["rebuilt_revision"]
    assert "another one" in told["policy"]["note"]
    assert told["disagrees"] == {"effect": "allow", "reason": "allowed"}
    assert told["decision"]["reason"] == "trust_too_low"


def test_without_a_history_the_recorded_reason_is_told(client: FlaskClient, trail: Trail) -> None:
    """The rows, without what each grant says."""
    trail.call(policy(grant(maxTrust="low")))
    told = get(client, "r1").json
    assert told["policy"]["match"] == "unknown"
    assert "no MCPServer `ns/srv` was recorded" in told["policy"]["note"]
    assert told["failed"]["detail"].startswith("trust_too_low")
    assert told["decision"]["grant"] == {"namespace": "ns", "name": "g"}


def test_the_clusters_name_is_part_of_the_policy(client: FlaskClient, trail: Trail) -> None:
    """It is in the event, so the revision fits."""
    trail.change(None, SERVER, NOON - HOUR)
    trail.call(policy(cluster="east"))
    told = get(client, "r1").json
    assert told["policy"]["match"] == "exact"
    assert told["call"]["server"] == {"namespace": "ns", "name": "srv", "cluster": "east"}


def test_a_request_that_could_not_be_read_gets_no_change(client: FlaskClient, trail: Trail) -> None:
    """Row 1 is about the request, not about grants."""
    trail.decided(Decision(Effect.DENY, Reason.DUPLICATE_KEY, policy().facts))
    told = get(client, "r1").json
    assert told["failed"]["row"] == "1"
    assert {"now", "smallest_change", "advice"}.isdisjoint(told)


def test_the_smallest_change_counts_from_now_on(
    client: FlaskClient, trail: Trail, folder: Path
) -> None:
    """It patches the object as it is now; applying it allows the call."""
    put(folder, grant(maxTrust="medium"))
    trail.call(policy(grant(maxTrust="low")))
    (change,) = get(client, "r1").json["smallest_change"]["changes"]
    assert change == {
        "action": "patch",
        "summary": "raise maxTrust of grant ns/g to high",
        "patch": {
            "apiVersion": "mcpruntime.org/v1alpha1",
            "kind": "MCPAccessGrant",
            "metadata": {"name": "g", "namespace": "ns"},
            "spec": {"maxTrust": "high"},
        },
    }
    put(folder, grant(maxTrust="high"))
    assert get(client, "r1").json["now"]["effect"] == "allow"


@pytest.mark.parametrize(
    ("key", "status"), [("bob", 200), ("reader", 404), ("eve", 404), ("bot", 404), ("sender", 403)]
)
def test_who_sees_a_call(client: FlaskClient, trail: Trail, key: str, status: int) -> None:
    """Who is no admin: calls of its own identity; others' are as if they were not there."""
    trail.call(policy())
    answer = get(client, "r1", key)
    assert answer.status_code == status
    assert "smallest_change" not in answer.json
    missing = get(client, "r2", key)
    if status == 404:
        assert missing.json["detail"] == answer.json["detail"].replace("r1", "r2")


def test_an_agent_that_calls_for_nobody_sees_its_calls(client: FlaskClient, trail: Trail) -> None:
    """It signs in by itself: its subject is its id. A verified address names a human."""
    trail.call(policy(), who=Identity(agent_id="a"), request_id="alone")
    assert get(client, "alone", "bot").status_code == 200
    assert get(client, "alone", "bob").status_code == 404
    trail.call(policy(), who=Identity(human_id="bob@example.com"), request_id="mail")
    assert get(client, "mail", "bob").status_code == 200


def test_a_caller_sees_its_own_of_several_calls(client: FlaskClient, trail: Trail) -> None:
    """Another's call with the same request id is not even named."""
    own = trail.call(policy())
    trail.call(policy(), NOON + HOUR, who=Identity(human_id="eve"))
    told = get(client, "r1", "bob").json
    assert told["event_id"] == own
    assert "other_events" not in told


def test_another_s_event_hides_no_call(client: FlaskClient, trail: Trail) -> None:
    """One with the same request id that tells no decision is passed over."""
    own = trail.call(policy())
    trail.foreign({"request_id": "r1", "human_id": "bob", "note": "of an application"})
    for key in ("admin", "bob"):
        told = get(client, "r1", key).json
        assert (told["event_id"], told.get("other_events")) == (own, None)


def test_what_is_no_call(client: FlaskClient, trail: Trail) -> None:
    """404 for unknown ids, and for events that tell no decision."""
    trail.change(None, SERVER, NOON)
    for asked in ("nothing", str(UUID(int=1)), str(UUID(int=99)), "a'; DROP TABLE events"):
        answer = get(client, asked)
        assert answer.status_code == 404
        assert answer.json["error"] == "not_found"


@pytest.mark.parametrize("mount", ["/api", "/api/v1"])
def test_a_hypothetical_call(client: FlaskClient, folder: Path, mount: str) -> None:
    """Decided by the objects as they are, with the change that would allow it."""
    put(folder, grant(toolRules=[{"name": "other"}]))
    told = ask(client, mount=mount, tool="wipe", human_id="bob", agent_id="a").json
    assert told["decision"]["reason"] == "tool_not_granted"
    assert told["failed"]["row"] == "8"
    current = policy(grant(toolRules=[{"name": "other"}])).facts.revision
    assert told["policy"] == {
        "match": "current",
        "revision": current,
        "version": "v1",
        "mode": "allow-list",
    }
    changes = [told["smallest_change"], *told["alternatives"]]
    assert all(not change["opens_to_others"] for change in changes)
    assert [change["changes"][0]["action"] for change in changes] == ["patch", "create"]


def test_a_hypothetical_call_at_another_time(
    client: FlaskClient, trail: Trail, folder: Path
) -> None:
    """The past by the policy of then, the future by that of now when things have expired."""
    trail.change(None, SERVER, NOON - HOUR)
    trail.change(grant(disabled=True), grant(maxTrust="high"), NOON + HOUR)
    ends = grant(maxTrust="high", expiresAt="2026-11-24T00:00:00Z")
    put(folder, ends)
    asked = {"server": {"name": "srv", "namespace": "ns"}, "tool": "wipe", "human_id": "bob"}
    asked["agent_id"] = "a"
    then = ask(client, **asked, time="24h").json
    assert then["decision"]["reason"] == "grant_disabled"
    assert then["policy"]["match"] == "nearest"
    assert then["now"]["effect"] == "allow"
    assert ask(client, **asked).json["decision"]["effect"] == "allow"
    later = ask(client, **asked, time="2026-11-24T00:00:00Z").json
    assert later["decision"]["reason"] == "grant_expired"
    assert ask(client, **asked, time="9h").status_code == 200
    before = ask(client, **asked, time="1970-01-02T00:00:00Z")
    assert before.status_code in (200, 404)


def test_a_method_that_is_no_tool_call(client: FlaskClient) -> None:
    """Its row decides, and no grant is asked."""
    told = ask(client, method="tools/list", human_id="bob").json
    assert (told["decision"]["effect"], told["decision"]["reason"]) == ("allow", "not_tool_call")
    assert told["failed"] is None


def test_where_nothing_helps_the_answer_says_what_would(client: FlaskClient) -> None:
    """No grant helps who does not say who it is."""
    told = ask(client, tool="wipe").json
    assert told["decision"]["reason"] == "missing_identity"
    assert "the caller must say who it is" in told["advice"]
    assert "smallest_change" not in told


@pytest.mark.parametrize(
    ("key", "who", "status"),
    [
        ("bob", {"human_id": "bob", "agent_id": "any"}, 200),
        ("bob", {"human_id": "bob@example.com"}, 200),
        ("bot", {"agent_id": "a"}, 200),
        ("bob", {"human_id": "eve"}, 404),
        ("bob", {"agent_id": "a"}, 404),
        ("bob", {"human_id": "bob", "team_id": "t"}, 404),
        ("bob", {}, 404),
        ("reader", {"human_id": "bob"}, 404),
        ("sender", {"human_id": "bob"}, 403),
    ],
)
def test_whose_hypothetical_calls(
    client: FlaskClient, key: str, who: dict[str, str], status: int
) -> None:
    """Who is no admin asks about itself, and is told of no change."""
    server = {"name": "srv", "namespace": "ns"}
    answer = ask(client, key, tool="wipe", server=server, **who)
    assert answer.status_code == status
    if status == 200:
        assert answer.json["decision"]["reason"] == "no_matching_grant"
        assert {"smallest_change", "alternatives", "advice"}.isdisjoint(answer.json)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, "tool"),
        ({"tool": "wipe", "method": "tools/list"}, 400, "tool"),
        ({"tool": 7}, 400, "tool"),
        ({"tool": "wipe", "agent": "a"}, 400, "agent"),
        ({"tool": "wipe", "time": "yesterday"}, 400, "time"),
        ({"tool": "wipe", "time": "9999-01-01T00:00:00Z"}, 400, "time"),
        ({"tool": "wipe", "time": "999999999h"}, 400, "time"),
        ({"tool": "x" * 257}, 400, "tool"),
        ({"tool": "wipe", "server": {"namespace": "ns"}}, 400, "server.name"),
        ({"tool": "wipe", "server": {"name": "none", "namespace": "ns"}}, 404, None),
    ],
)
def test_a_body_that_cannot_be_answered(
    client: FlaskClient, body: dict[str, Any], status: int, field: str | None
) -> None:
    """A problem document that names the member."""
    answer = ask(client, **body)
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert answer.json.get("field") == field


def test_a_server_must_be_named_where_there_are_several(client: FlaskClient, folder: Path) -> None:
    """The only one is meant otherwise."""
    put(folder, SERVER | {"metadata": {"name": "two", "namespace": "ns"}})
    answer = ask(client, tool="wipe", human_id="bob")
    assert (answer.status_code, answer.json["field"]) == (400, "server")


def test_who_reaches_no_server_is_not_told_how_many_there_are(client: FlaskClient) -> None:
    """The default is the only server of the caller's own namespaces."""
    for key, status in (("bob", 400), ("nora", 200)):
        answer = ask(client, key, tool="wipe", human_id=key)
        assert answer.status_code == status
    assert ask(client, "bob", tool="wipe", human_id="bob").json["detail"] == (
        "server: is needed, for you reach 0 MCP servers; send `name` and `namespace` of one"
    )


def test_objects_that_make_no_policy(client: FlaskClient, folder: Path) -> None:
    """Everything is denied, and the answer says why."""
    spec = {"session": {"enforceMaxLifetime": True}}
    put(folder, written("MCPServer", "srv", spec))
    put(folder, written("MCPAgentSession", "s", grant()["spec"]))
    told = ask(client, tool="wipe", human_id="bob").json
    assert told["decision"]["reason"] == "policy_unavailable"
    assert "creationTimestamp" in told["policy"]["note"]

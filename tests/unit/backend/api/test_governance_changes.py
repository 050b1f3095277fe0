"""Changes of grants and sessions: who is told of them, and what they would do."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.adapters.directory import DirectoryStore
from backend.adapters.sqlite_log import SqliteLog
from backend.api.governance_preview import Previews
from backend.history.delivery import Delivery
from backend.history.ledger import Ledger
from backend.history.outbox import Outbox
from backend.history.recorder import Recorder
from backend.ports.event_log import Assignment, EventLog
from extauthz.core.errors import Retryable
from extauthz.core.model import MCPAccessGrant
from tests.tools.event_ids import id_of
from tests.tools.event_rows import NOON, row
from tests.tools.log_thread import WAIT_SECONDS, LogThread
from tests.unit.backend.api.conftest import NewApp

ADMIN, ADA = {"x-api-key": "admin"}, {"x-api-key": "team-a"}
GRANTS = "/api/runtime/grants"
SESSIONS = "/api/runtime/sessions"
SHOP = """
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: shop, namespace: team-a}
spec: {tools: [{name: list}, {name: refund, requiredTrust: high}]}
"""
GRANT = {
    "name": "g", "namespace": "team-a", "serverRef": {"name": "shop"},
    "subject": {"agentID": "ops"}, "toolRules": "list:allow",
}  # fmt: skip
SESSION = {"name": "s", "namespace": "team-a", "serverRef": {"name": "shop"}} | {
    "subject": {"agentID": "ops"}
}
ONE = f"{GRANTS}/team-a/g"


class Owner:
    """Takes every partition."""

    async def assigned(self, assignment: Assignment) -> None: ...

    async def revoked(self) -> None: ...


class Trail:
    """An api over a directory, and what its log is told."""

    def __init__(self, folder: Path, new_app: NewApp, thread: LogThread, log: SqliteLog) -> None:
        self.folder, self.is_away = folder / "access", False
        self.folder.mkdir()
        (self.folder / "shop.yaml").write_text(SHOP)
        self._thread, self._log, self._consumer = thread, log, log.consumer("test")
        thread.run(self._consumer.start(Owner()))
        self.outbox = Outbox(folder / "outbox.db", NOON.timestamp)
        self.recorder = Recorder(
            ledger=Ledger(),
            outbox=self.outbox,
            delivery=Delivery(self.outbox, self._opened),
            loop=thread.loop,
            clock=NOON.timestamp,
            new_id=lambda: id_of(str(threading.get_ident())),
            answer_seconds=WAIT_SECONDS,
        )
        self.new_client: Callable[[Any], FlaskClient] = lambda store: new_app(
            store, access=DirectoryStore(self.folder), changes=self.recorder
        ).test_client()
        self.client = self.new_client(None)

    async def _opened(self) -> EventLog:
        if self.is_away:
            raise Retryable("the log is away")
        return self._log

    def told(self) -> Sequence[dict[str, Any]]:
        """Payloads that came into the log since the last look."""
        records = self._thread.run(self._consumer.fetch(1000, 0.01))
        return [json.loads(record.value)["payload"] for record in records]

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        answer = self.client.open(path, method=method, json=body, headers=ADMIN | headers)
        return answer.status_code, answer.get_json(force=True)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.yaml"))


@pytest.fixture
def trail(tmp_path: Path, new_app: NewApp, thread: LogThread, kept: SqliteLog) -> Iterator[Trail]:
    made = Trail(tmp_path, new_app, thread, kept)
    yield made
    made.outbox.close()


def test_each_change_is_one_event(trail: Trail) -> None:
    """Who, what, before and after; what changes nothing tells nothing."""
    for method, path, body in (
        ("POST", GRANTS, GRANT),
        ("POST", GRANTS, GRANT),
        ("PATCH", ONE, {"maxTrust": "high"}),
        ("POST", f"{ONE}/enable", None),
    ):
        assert trail.ask(method, path, body)[0] == 200
    made, raised = trail.told()
    assert (made["action"], made["before"], made["server"]) == ("created", None, "shop")
    assert (made["kind"], made["namespace"], made["name"]) == ("MCPAccessGrant", "team-a", "g")
    assert made["actor"].startswith("key-")
    assert raised["before"] == made["after"]
    assert raised["after"]["spec"]["maxTrust"] == "high"
    assert trail.client.delete(ONE, headers=ADA).status_code == 200
    trail.ask("POST", GRANTS, GRANT)
    gone, _ = trail.told()
    assert (gone["action"], gone["actor"], gone["after"]) == ("deleted", "ada", None)
    assert "admin" not in json.dumps([made, raised, gone])  # which is the key


def test_while_the_log_is_away_rights_are_taken_and_not_given(trail: Trail) -> None:
    """What was refused is not written; the records come, in order, once the log is back."""
    trail.ask("POST", GRANTS, GRANT)
    trail.ask("POST", GRANTS, GRANT | {"name": "h"})
    trail.told()
    trail.is_away = True
    assert trail.ask("POST", f"{ONE}/disable")[0] == 200
    for method, path, body in (
        ("POST", f"{ONE}/enable", None),
        ("PATCH", f"{GRANTS}/team-a/h", {"maxTrust": "high"}),
        ("POST", GRANTS, GRANT | {"name": "i"}),
        ("PATCH", f"{GRANTS}/team-a/h", {"toolRules": "refund:allow"}),
    ):
        status, problem = trail.ask(method, path, body)
        assert (status, problem["error"]) == (503, "unavailable")
        assert "try again once it is back" in problem["message"]
    assert trail.ask("PATCH", f"{GRANTS}/team-a/h", {"toolRules": "list:deny"})[0] == 200
    assert trail.ask("DELETE", ONE)[0] == 200
    assert trail.files() == ["grant-h.yaml", "shop.yaml"]
    assert trail.told() == []
    trail.is_away = False
    assert trail.ask("POST", GRANTS, GRANT | {"name": "i"})[0] == 200
    told = [(each["name"], each["action"]) for each in trail.told()]
    assert told == [("g", "changed"), ("h", "changed"), ("g", "deleted"), ("i", "created")]


def test_a_session_is_made_where_its_lifetime_is_enforced(trail: Trail) -> None:
    """Its end counts from the creation that it gets now, or got then."""
    (trail.folder / "shop.yaml").write_text(
        SHOP.replace("spec: {", "spec: {session: {enforceMaxLifetime: true, maxLifetime: 2h}, ")
    )
    one = f"{SESSIONS}/team-a/s"
    assert trail.ask("POST", SESSIONS, SESSION)[0] == 200
    assert trail.ask("POST", SESSIONS, SESSION | {"consentedTrust": "high"})[0] == 200
    trail.is_away = True
    assert trail.ask("PATCH", one, {"expiresAt": "0001-01-01T00:00:00+14:00"})[0] == 200
    assert trail.ask("PATCH", one, {"expiresAt": None})[0] == 503
    assert trail.ask("PATCH", one, {"revoked": True})[0] == 200


@pytest.mark.parametrize("query", ["", "?dryRun=true"])
def test_a_right_is_taken_back_where_the_server_has_no_policy(
    trail: Trail, stored: ClickHouseStore, query: str
) -> None:
    """What was there last still runs, and must not be given again once the server is mended."""
    trail.client = trail.new_client(stored)
    trail.ask("POST", GRANTS, GRANT)
    (trail.folder / "shop.yaml").write_text(
        SHOP.replace("spec: {", "spec: {auth: {humanIDHeader: X-A, agentIDHeader: X-A}, ")
    )
    for body, expected in (({"maxTrust": "high"}, 400), ({"disabled": True}, 200)):
        status, told = trail.ask("PATCH", f"{ONE}{query}", body)
        assert (status, "from one header" in told.get("message", "")) == (expected, expected == 400)


def test_what_cannot_be_written_is_told_to_the_caller(trail: Trail) -> None:
    """A file that is broken where the object may stand: 400, and nothing recorded."""
    (trail.folder / "broken.yaml").write_text("metadata: {name: g}\nspec: [")
    status, problem = trail.ask("POST", GRANTS, GRANT)
    assert (status, problem["error"]) == (400, "invalid_request")
    assert "mend the file first" in problem["message"]
    assert trail.told() == []


HUSH = """
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: g, namespace: team-b}
spec: {serverRef: {name: bank}, subject: {humanID: boss}, maxTrust: TRUST}
"""


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"hush.yaml": HUSH.replace("TRUST", "secret")}, "may stand in a broken file"),
    ],
)
def test_what_stands_in_the_way_is_told_to_who_may_see_it(
    trail: Trail, files: dict[str, str], said: str
) -> None:
    """Who is bound to a namespace learns nothing of what others have in the same folder."""
    for name, text in files.items():
        (trail.folder / name).write_text(text)
    assert said in trail.ask("POST", GRANTS, GRANT)[1]["message"]
    answer = trail.client.post(GRANTS, json=GRANT, headers=ADA)
    told = answer.get_data(as_text=True)
    assert answer.status_code == 400
    assert "look why" in told
    assert not [word for word in ("secret", "team-b", ".yaml", "bank") if word in told]


def test_edits_by_file_and_by_api_at_once_lose_nothing(trail: Trail) -> None:
    """Many at a time: each grant of the api is there, and so is each that a person saved."""
    many = 12
    file = trail.folder / "by-hand.yaml"

    def by_api(number: int) -> None:
        client = trail.new_client(None)
        for name in (f"api-{number}", f"more-{number}"):
            answer = client.post(GRANTS, json=GRANT | {"name": name}, headers=ADMIN)
            assert answer.status_code == 200, answer.text

    def by_hand() -> None:
        for number in range(many):
            text = yaml.safe_dump_all([document(f"hand-{each}") for each in range(number + 1)])
            fresh = file.with_suffix(".new")
            fresh.write_text(text)
            fresh.rename(file)

    threads = [threading.Thread(target=by_api, args=(number,)) for number in range(4)]
    threads.append(threading.Thread(target=by_hand))
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    names = {each["name"] for each in trail.ask("GET", GRANTS)[1]["grants"]}
    wanted = {f"{who}-{number}" for who in ("api", "more") for number in range(4)}
    assert names == wanted | {f"hand-{number}" for number in range(many)}
    assert {each["name"] for each in trail.told()} == wanted


def document(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "mcpruntime.org/v1alpha1",
        "kind": "MCPAccessGrant",
        "metadata": {"name": name, "namespace": "team-a"},
        "spec": {"serverRef": {"name": "shop"}, "subject": {"agentID": "ops"}},
    }


CALL = {
    "server": "shop", "namespace": "team-a", "agent_id": "ops", "rpc_method": "tools/call",
    "decision": "allow", "reason": "allowed", "mode": "allow-list", "policy_revision": "sha256:x",
}  # fmt: skip


def call(minutes: int, tool: str, **more: Any) -> Any:
    return row(minutes, CALL | {"tool_name": tool, "request_id": f"r{minutes}"} | more)


@pytest.fixture(scope="module")
def stored(filled: ClickHouseStore) -> ClickHouseStore:
    """Calls of yesterday, and others."""
    denied = {"decision": "deny", "reason": "tool_not_granted"}
    filled.insert(
        [
            *(call(number, "list") for number in range(1, 8)),
            call(10, "refund", **denied),
            call(11, "refund", agent_id="else", reason="no_matching_grant", decision="deny"),
            call(12, "list", server="bank", namespace="team-b"),
            call(13, "", rpc_method="tools/list", reason="not_tool_call"),
            call(14, "list", decision="deny", reason="duplicate_key"),
            call(60 * 25, "list"),
            row(15, {"server": "shop", "namespace": "team-a", "agent_id": "ops"}, "mcp.request"),
        ]
    )
    return filled


def test_a_dry_run_tells_which_calls_would_change(trail: Trail, stored: ClickHouseStore) -> None:
    """Those of the last 24 h, by caller and tool, with what they get now and would get."""
    trail.ask("POST", GRANTS, GRANT)
    trail.told()
    trail.client = trail.new_client(stored)
    before = trail.files(), trail.ask("GET", ONE)
    status, said = trail.ask("POST", f"{ONE}/disable?dryRun=true")
    assert (status, said["dryRun"], said["disabled"]) == (200, True, True)
    effect = said["effect"]
    assert (effect["calls"], effect["changed"], effect["bounded"]) == (8, 8, "")
    assert effect["since"] == "2026-11-21T12:00:00.000Z"
    assert effect["changes"] == [
        {
            "human_id": "", "agent_id": "ops", "team_id": "", "session_id": "",
            "tool_name": "list", "calls": 7, "request_ids": ["r1", "r2", "r3", "r4", "r5"],
            "from": {"decision": "allow", "reason": "allowed"},
            "to": {"decision": "deny", "reason": "grant_disabled"},
        },
        {
            "human_id": "", "agent_id": "ops", "team_id": "", "session_id": "",
            "tool_name": "refund", "calls": 1, "request_ids": ["r10"],
            "from": {"decision": "deny", "reason": "tool_not_granted"},
            "to": {"decision": "deny", "reason": "grant_disabled"},
        },
    ]  # fmt: skip
    assert (trail.files(), trail.ask("GET", ONE)) == before
    assert trail.told() == []


ELSEWHERE, OTHERS = {"serverRef": {"name": "other"}}, {"subject": {"agentID": "b"}}
USELESS = {"name": "n", "toolRules": "refund:allow:high"}


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", GRANTS, GRANT | USELESS, "toolRules[0]"),
        ("POST", GRANTS, GRANT | ELSEWHERE, "serverRef"),
        ("PATCH", ONE, ELSEWHERE, "serverRef"),
        ("POST", SESSIONS, SESSION | OTHERS, "subject"),
        ("PATCH", f"{SESSIONS}/team-a/s", OTHERS, "subject"),
    ],
)
@pytest.mark.parametrize("query", ["", "?dryRun=true"])
def test_what_a_cluster_refuses_is_refused_everywhere(
    trail: Trail, stored: ClickHouseStore, method: str, path: str, body: Any, field: str, query: str
) -> None:  # fmt: skip
    """A new rule that can never allow, and another server or caller; when it is tried, too."""
    trail.client = trail.new_client(stored)
    (trail.folder / "other.yaml").write_text(SHOP.replace("name: shop", "name: other"))
    assert trail.ask("POST", GRANTS, GRANT)[0] == trail.ask("POST", SESSIONS, SESSION)[0] == 200
    status, problem = trail.ask(method, f"{path}{query}", body)
    assert (status, problem["error"], problem["field"]) == (400, "invalid_body", field)


def test_a_trial_refuses_what_the_change_would(trail: Trail, stored: ClickHouseStore) -> None:
    """With the same status, whichever of several things is wrong."""
    trail.client = trail.new_client(stored)
    for made in (False, True):
        for path, method in ((ONE, "PATCH"), (ONE, "DELETE"), (GRANTS, "POST")):
            body = (
                None if method == "DELETE" else GRANT if method == "POST" else {"maxTrust": "low"}
            )
            one, tried = (
                trail.ask(method, f"{path}{query}", body, **{"If-Match": '"older"'})
                for query in ("", "?dryRun=true")
            )
            assert one[0] == tried[0] == (412 if made or method == "POST" else 404)
        trail.ask("POST", GRANTS, GRANT)


def test_every_change_can_be_tried(trail: Trail, stored: ClickHouseStore) -> None:
    """A new object, a member, a deletion; of an object that is for others, nothing changes."""
    trail.client = trail.new_client(stored)
    new = GRANT | {"toolRules": "list:allow\nrefund:allow", "maxTrust": "high"}
    status, said = trail.ask("POST", f"{GRANTS}?dryRun=true", new)
    assert (status, said["grant"]["name"], said["effect"]["changed"]) == (200, "g", 8)
    assert trail.files() == ["shop.yaml"]
    trail.ask("POST", GRANTS, GRANT)
    for method, path, body, changed in (
        ("DELETE", ONE, None, 8),
        ("PATCH", ONE, {"toolRules": "list:allow\nrefund:allow"}, 1),
        ("PATCH", ONE, {"maxTrust": "high"}, 0),
        ("PATCH", ONE, {"subject": {"agentID": "else"}}, 9),
        ("POST", "/api/runtime/sessions", SESSION, 0),
    ):
        status, said = trail.ask(method, f"{path}?dryRun=true", body)
        assert status == 200, said
        assert said["effect"]["changed"] == changed, path
    assert trail.ask("DELETE", f"{ONE}x?dryRun=true")[0] == 404
    assert trail.ask("DELETE", f"{ONE}?dryRun=yes")[1]["field"] == "dryRun"
    assert trail.ask("GET", ONE)[0] == 200


def test_a_dry_run_tells_no_calls_of_others(trail: Trail, stored: ClickHouseStore) -> None:
    """Only of servers in the caller's own namespaces."""
    bank = SHOP.replace("name: shop, namespace: team-a", "name: bank, namespace: team-b")
    bank = bank.replace("spec: {", "spec: {policy: {allowedNamespaces: [team-a]}, ")
    (trail.folder / "bank.yaml").write_text(bank)
    trail.client = trail.new_client(stored)
    foreign = GRANT | {"serverRef": {"name": "bank", "namespace": "team-b"}}
    path = f"{GRANTS}?dryRun=true"
    assert trail.ask("POST", path, foreign)[1]["effect"]["calls"] == 1
    said = trail.client.post(path, json=foreign, headers=ADA).json
    assert (said["effect"]["calls"], said["effect"]["changes"]) == (0, [])


def test_a_dry_run_is_bounded_and_says_so(trail: Trail, stored: ClickHouseStore) -> None:
    """The newest calls are looked at, and how far back they reach is told."""
    access = DirectoryStore(trail.folder)
    trail.ask("POST", GRANTS, GRANT)
    grant = access.get(MCPAccessGrant, "team-a", "g").resource
    effect = Previews(stored, access, most_calls=3).of(grant, None, NOON, None)
    assert (effect.calls, effect.changed, effect.since) == (3, 3, "2026-11-22T11:57:00.000Z")
    assert "the newest 3 calls alone were looked at" in effect.bounded


HOSTILE = [
    "a\n---\nkind: MCPAccessGrant", "# no comment", "yes", "null", "0x1f", "1e3", "2026-01-01",
    "{a: b}", "&anchor", "*alias", "!!python/object:os.system", "'\"`\\", "\u2028\u2029\u0085",
    "\t", "\x00", "\x1b[31m", "\ufeff", "=cmd", "<script>", "ä\u0308\U0001f600", ": ", "- x",
    "%YAML 1.2", "x" * 1024,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_breaks_out(trail: Trail, text: str) -> None:
    """It comes back as it was sent, or is refused with its member's name; nothing else changes."""
    body = GRANT | {"subject": {"agentID": text}, "toolRules": [{"name": text}]}
    status, said = trail.ask("POST", GRANTS, body)
    listed = trail.ask("GET", GRANTS)[1]["grants"]
    if status == 200:
        assert said["grant"]["subject"] == {"agentID": text}
        assert said["grant"]["toolRules"] == [{"name": text, "decision": "allow"}]
        assert [each["subject"] for each in listed] == [{"agentID": text}]
        assert trail.told()[0]["after"]["spec"]["subject"] == {"agentID": text}
    else:
        assert (status, listed, trail.told()) == (400, [], []), said
        assert said["field"]
    assert "shop.yaml" in trail.files()
    assert trail.ask("POST", GRANTS, GRANT | {"name": "h"})[0] == 200

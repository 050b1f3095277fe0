"""Who can call a tool, what a caller can call, what no call used: over HTTP."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from flask.testing import FlaskClient

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.adapters.directory import DirectoryStore
from tests.contract.stored_events import DAY, NOON, event
from tests.unit.backend.api.conftest import NewApp
from tests.unit.backend.shop import shop

ACCESS = (
    shop("team-a", end="2026-11-22T13:00:00Z", session_required=True)
    + """
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: bank, namespace: team-b}
spec: {}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: broken, namespace: team-b}
spec: {session: {enforceMaxLifetime: true}}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAgentSession
metadata: {name: bad, namespace: team-b}
spec: {serverRef: {name: broken}, subject: {agentID: ops}}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: all, namespace: team-b}
spec: {serverRef: {name: bank}, subject: {agentID: ops}}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAgentSession
metadata: {name: adas, namespace: team-a}
spec: {serverRef: {name: shop}, subject: {humanID: ada}, consentedTrust: high}
"""
)
Answer = dict[str, Any]


@pytest.fixture(scope="module")
def client(
    tmp_path_factory: pytest.TempPathFactory, new_app: NewApp, filled: ClickHouseStore
) -> FlaskClient:
    folder: Path = tmp_path_factory.mktemp("entitled")
    (folder / "access.yaml").write_text(ACCESS)
    payload = orjson.dumps({"matched_grant": "reads", "matched_grant_namespace": "team-a"})
    topic = uuid4()
    filled.insert(
        [
            event(
                topic,
                n,
                event_id=str(uuid4()),
                event_time=NOON - timedelta(hours=n),
                payload=payload.decode(),
                tool_name="list" if n else "refund",
                decision="allow" if n else "deny",
                namespace="team-a",
            )
            for n in range(3)
        ]
    )
    return new_app(filled, access=DirectoryStore(folder)).test_client()


def ask(client: FlaskClient, path: str, key: str = "admin", status: int = 200) -> Answer:
    answer = client.get(f"/api/runtime/access/{path}", headers={"x-api-key": key})
    assert answer.status_code == status, answer.text
    told: Answer = answer.get_json()
    return told


def test_who_can_tells_grant_rule_trust_session_and_end(client: FlaskClient) -> None:
    """Each caller without a session first, then with each that it can name."""
    told = ask(client, "who-can?tool=refund&server=shop&namespace=team-a")
    assert told["policy"]["session_required"] is True
    assert told["tool"] == {
        "name": "refund",
        "declared": True,
        "required_trust": "high",
        "side_effect": "destructive",
    }
    by_agent, by_both = sorted(told["callers"], key=lambda c: len(c["caller"]))
    assert by_both["caller"] == {"human_id": "ada", "agent_id": "ops"}
    without, with_session = by_both["calls"]
    assert (without["effect"], without["reason"]) == ("deny", "missing_session")
    assert with_session["session"] == "adas"
    assert with_session["grant"] == {"namespace": "team-a", "name": "refunds"}
    assert with_session["rule"] == "every tool"
    assert with_session["until"] == "2026-11-22T13:00:00.000Z"
    # With a human's session the agent calls for that human, and so has the human's grants.
    assert by_agent["calls"][1]["caller"] == {"human_id": "ada", "agent_id": "ops"}
    assert told["others"]["reason"] == "missing_session"
    assert (told["callers_left_off"], told["policy"]["mode"]) == (0, "allow-list")


def test_what_can_goes_over_all_servers(client: FlaskClient) -> None:
    """With tools that nobody names; a server without a policy is told with its fault."""
    told = ask(client, "what-can?agent_id=ops&human_id=ada")
    servers = {each["policy"]["server"]["name"]: each for each in told["servers"]}
    shop = {each["tool"]["name"]: each for each in servers["shop"]["tools"]}
    assert (shop["refund"]["can"], shop["list"]["can"]) == (True, True)
    assert [call.get("session", "") for call in shop["list"]["calls"]] == ["", "adas"]
    (other,) = servers["bank"]["tools"]
    assert (other["any_other"], other["can"]) == (True, True)
    assert any("team-b/broken" in fault for fault in told["faults"])


def test_closer_callers_are_hinted_at(client: FlaskClient) -> None:
    """Who asks for the agent alone hears of grants for it with a human."""
    told = ask(client, "what-can?agent_id=ops&server=shop")
    assert told["servers"][0]["closer"] == [{"human_id": "ada", "agent_id": "ops"}]


def test_unused_tells_grants_and_rules(client: FlaskClient) -> None:
    """A window longer than what is stored is said."""
    told = ask(client, "unused?since=720h")
    assert [
        (each["grant"]["name"], each.get("rule", ""), each["state"], each.get("denied", 0))
        for each in told["unused"]
    ] == [
        ("reads", "refund:allow", "never_allowed", 1),
        ("refunds", "", "unused", 0),
        ("all", "", "unused", 0),
    ]
    assert told["complete"] is False
    assert told["stored_since"] == "2026-11-22T10:00:00.000Z"
    assert "what was used before is not known" in told["notes"][0]


def test_a_window_that_is_stored_is_complete(client: FlaskClient) -> None:
    """Days count as a whole, so this one is; it says nothing of retention."""
    told = ask(client, f"unused?since={(NOON + DAY).isoformat().replace('+00:00', 'Z')}")
    assert (told["complete"], told["notes"]) == (True, [])


def test_answers_stay_in_the_callers_namespaces(client: FlaskClient) -> None:
    """Another one answers 403 whether it exists or not; lists leave it out."""
    ask(client, "who-can?tool=t&server=bank&namespace=team-b", "team-a", 403)
    ask(client, "unused?namespace=nowhere", "team-a", 403)
    told = ask(client, "unused", "team-a")
    assert {each["grant"]["namespace"] for each in told["unused"]} == {"team-a"}
    servers = ask(client, "what-can?agent_id=ops", "team-a")["servers"]
    assert [each["policy"]["server"]["namespace"] for each in servers] == ["team-a"]
    ask(client, "unused", "reader", 403)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("who-can?server=shop&namespace=team-a", 400, "tool"),
        ("who-can?tool=t&namespace=team-a", 400, "server"),
        ("who-can?tool=t&server=nothing", 404, "mcp-servers/nothing"),
        ("who-can?tool=t&server=broken&namespace=team-b", 409, "creationTimestamp"),
        ("who-can?tool=t&server=shop&namespace=team-a&limit=0", 400, "limit"),
        ("what-can", 400, "agent_id"),
        ("what-can?session_id=adas", 400, "agent_id"),
        ("what-can?agent_id=a&server=nothing", 404, "nothing"),
        ("unused?since=yesterday", 400, "yesterday"),
    ],
)
def test_bad_questions_are_told(client: FlaskClient, path: str, status: int, said: str) -> None:
    """With the field and the mend."""
    assert said in ask(client, path, status=status)["message"]

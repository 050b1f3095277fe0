"""A grant made and taken back over HTTP: it counts for the next call, and the trail says who."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tools.sentinel_up import Up
from tests.tools.waiting import SECONDS, eventually

AGENT = "desk-agent"
GRANT = {
    "name": "desk",
    "serverRef": {"name": "reference-server"},
    "subject": {"agentID": AGENT},
    "toolRules": "echo:allow\nlist_invoices:allow",
}
GRANTS = "/api/runtime/grants"
ONE = f"{GRANTS}/mcp-servers/desk"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("governance") / "state")
    try:
        yield running
    finally:
        assert running.stop() == 0, running.log.read_text()


def ask(up: Up, method: str, path: str, body: Any = None) -> Any:
    key = (up.state / "admin.key").read_text().strip()
    request = urllib.request.Request(
        up.endpoints["api"] + path,
        json.dumps(body).encode() if body is not None else None,
        {"x-api-key": key, "Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        return json.load(response)


def changes(up: Up, name: str) -> list[tuple[str, str, str]]:
    """Producer, actor and action of what the trail tells of an object, oldest first."""
    path = "/api/events?event_type=governance.change&limit=1000"
    told = [(e["producer"], e["payload"]) for e in ask(up, "GET", path)["events"]]
    found = [(who, said["actor"], said["action"]) for who, said in told if said["name"] == name]
    return found[::-1]


def allowed_calls(up: Up) -> list[dict[str, Any]]:
    return [call for call in up.calls("echo") if call["reason"] == "allowed"]


def test_a_grant_counts_for_the_next_call(up: Up) -> None:
    """Made, it allows; disabled, it denies; enabled, it allows; deleted, it is gone."""
    me = ask(up, "GET", "/api/auth/me")["principal"]["subject"]
    assert up.reason("echo", AGENT) == "no_matching_grant"

    assert ask(up, "POST", GRANTS, GRANT)["grant"]["disabled"] is False
    eventually(lambda: up.reason("echo", AGENT) == "allowed", "the new grant counts")
    eventually(lambda: allowed_calls(up), "the allowed call is stored")
    tried = ask(up, "POST", f"{ONE}/disable?dryRun=true")["effect"]
    assert tried["changed"] >= 1
    assert {each["to"]["reason"] for each in tried["changes"]} == {"grant_disabled"}
    assert up.reason("echo", AGENT) == "allowed"

    ask(up, "POST", f"{ONE}/disable")
    eventually(lambda: up.reason("echo", AGENT) == "grant_disabled", "it is taken back")
    allowed = allowed_calls(up)[0]
    eventually(lambda: ("api", me, "changed") in changes(up, "desk"), "the change is stored")
    told = ask(up, "GET", f"/api/runtime/explain/{allowed['decision_id']}")
    assert (told["decision"]["effect"], told["policy"]["match"]) == ("allow", "exact")
    assert told["now"]["reason"] == "grant_disabled"

    ask(up, "PATCH", ONE, {"disabled": False, "toolRules": ["list_invoices:allow"]})
    eventually(lambda: up.reason("echo", AGENT) == "tool_not_granted", "another rule counts")
    ask(up, "DELETE", ONE)
    eventually(lambda: up.reason("echo", AGENT) == "no_matching_grant", "it is gone")

    eventually(lambda: len(changes(up, "desk")) >= 4, "all changes are stored")
    actions = ("created", "changed", "changed", "deleted")
    assert changes(up, "desk") == [("api", me, action) for action in actions]


def test_a_file_that_is_edited_by_hand_and_over_http_tells_who(up: Up) -> None:
    """The watch records what a person saved, the api what it was asked for; once each."""
    me = ask(up, "GET", "/api/auth/me")["principal"]["subject"]
    ask(up, "POST", GRANTS, GRANT | {"name": "both"})
    (file,) = Path(up.state, "access").glob("*both*")
    text = file.read_text()
    file.write_text(text + "  maxTrust: high\n" if "maxTrust" not in text else _raised(text))
    eventually(lambda: len(changes(up, "both")) == 2, "the edit is recorded")
    ask(up, "POST", f"{GRANTS}/mcp-servers/both/disable")
    eventually(lambda: len(changes(up, "both")) >= 3, "the third change is stored")
    assert changes(up, "both") == [
        ("api", me, "created"),
        ("directory-watch", "file", "changed"),
        ("api", me, "changed"),
    ]


def _raised(text: str) -> str:
    return text.replace("maxTrust: low", "maxTrust: high")

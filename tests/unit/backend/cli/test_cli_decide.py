"""`sentinel decide`: a line in, an answer out."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from backend.cli.main import sentinel

NOW = "2026-06-01T00:00:00Z"
POLICY: dict[str, Any] = {
    "schema_version": "v1",
    "server": {"name": "demo", "namespace": "ns"},
    "tools": [
        {"name": "read", "required_trust": "low", "side_effect": "read"},
        {"name": "wipe", "required_trust": "high", "side_effect": "destructive"},
    ],
    "grants": [
        {"name": "g", "namespace": "ns", "agent_id": "bot", "max_trust": "medium"},
    ],
    "sessions": [
        {"name": "s", "namespace": "ns", "agent_id": "bot", "consented_trust": "low"},
    ],
}


def request(tool: str, **identity: str) -> dict[str, Any]:
    return {"request": {"method": "tools/call", "tool": tool, **identity}, "now": NOW}


def http(body: bytes, **headers: str) -> dict[str, Any]:
    pairs = [["Content-Type", "application/json"], *([k, v] for k, v in headers.items())]
    return {
        "http": {
            "method": "POST",
            "path": "/mcp",
            "headers": pairs,
            "body_base64": base64.b64encode(body).decode(),
        },
        "now": NOW,
    }


def run(*lines: dict[str, Any] | str, options: tuple[str, ...] = ()) -> Result:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return CliRunner().invoke(sentinel, ["decide", *options], input="\n".join(texts) + "\n")


def answers(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def one(line: dict[str, Any], policy: object = POLICY) -> dict[str, Any]:
    result = run({"policy": policy, **line})
    assert result.exit_code == 0, result.output
    (answer,) = answers(result)
    return answer


def test_an_allowed_call_tells_trust_grant_and_explanation() -> None:
    """All members that the output has."""
    answer = one(request("read", agent_id="bot"))
    assert (answer["effect"], answer["reason"]) == ("allow", "allowed")
    assert answer["trust"] == {
        "required": "low",
        "admin": "medium",
        "consented": "",
        "effective": "medium",
    }
    assert answer["grant"] == {"namespace": "ns", "name": "g"}
    assert answer["session"] is None
    assert answer["explanation"][0]["outcome"] == "holds"
    assert "would" not in answer
    assert "id" not in answer


def test_a_session_counts_and_is_named() -> None:
    """`session_id` names the session that caps the trust."""
    answer = one(request("read", agent_id="bot", session_id="s"))
    assert answer["session"] == {"namespace": "ns", "name": "s"}
    assert answer["trust"]["effective"] == "low"


def test_observe_mode_says_what_would_have_been() -> None:
    """`would` is there in observe mode alone."""
    observing = POLICY | {"policy": {"mode": "observe"}}
    answer = one(request("wipe", agent_id="bot"), observing)
    assert answer["effect"] == "allow"
    assert answer["would"] == {"effect": "deny", "reason": "trust_too_low"}


def test_http_goes_through_the_strict_parse() -> None:
    """A body with a duplicate key is refused; a clean one is decided."""
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}'
    headers = {"X-MCP-Agent-ID": "bot"}
    assert one(http(body, **headers))["reason"] == "allowed"
    assert one(http(body[:-1] + b',"id":2}', **headers))["reason"] == "duplicate_key"
    assert one(http(body))["reason"] == "missing_identity"


def test_a_peer_is_checked_where_it_is_given() -> None:
    """`peer` decides row 2a; without one the row is not asked of a `request`."""
    policy = POLICY | {"auth": {"trusted_peers": ["10.0.0.0/8"]}}
    asked = request("read", agent_id="bot")
    assert one(asked, policy)["reason"] == "allowed"
    assert one(asked | {"peer": "10.1.2.3"}, policy)["reason"] == "allowed"
    assert one(asked | {"peer": "192.0.2.1"}, policy)["reason"] == "untrusted_peer"


def test_order_and_ids_are_kept() -> None:
    """One answer a line, in the same order; `id` may be any JSON value."""
    ids: list[object] = [1, "two", None, {"three": [3]}]
    lines = [{"id": each, "policy": POLICY, **request("read", agent_id="bot")} for each in ids]
    assert [answer["id"] for answer in answers(run(*lines))] == ids


def test_now_decides_expiry() -> None:
    """A grant has expired at its very instant."""
    grant = POLICY["grants"][0] | {"expires_at": NOW}
    assert one(request("read", agent_id="bot"), POLICY | {"grants": [grant]})["reason"] == (
        "grant_expired"
    )
    before = request("read", agent_id="bot") | {"now": "2026-05-31T23:59:59Z"}
    assert one(before, POLICY | {"grants": [grant]})["reason"] == "allowed"


@pytest.mark.parametrize("policy", [{}, {"schema_version": "v9"}, [], "text", None, 7])
def test_a_policy_that_does_not_validate_denies(policy: object) -> None:
    """As in the sidecar: no valid policy, no call; and the fault is told."""
    answer = one(request("read", agent_id="bot"), policy)
    assert (answer["effect"], answer["reason"]) == ("deny", "policy_unavailable")
    assert answer["fault"]


def test_no_policy_at_all_denies() -> None:
    """Neither in the line nor by --policy."""
    (answer,) = answers(run(request("read", agent_id="bot")))
    assert answer["reason"] == "policy_unavailable"


def test_a_policy_file_serves_lines_without_one(tmp_path: Path) -> None:
    """`--policy` is the default; a line's own policy counts before it."""
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(POLICY))
    asked = request("read", agent_id="bot")
    closed = POLICY | {"grants": []}
    result = run(asked, asked | {"policy": closed}, options=("--policy", str(file)))
    reasons = [answer["reason"] for answer in answers(result)]
    assert reasons == ["allowed", "no_matching_grant"]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("{", ""),
        ("[]", ""),
        ('{"id": 1, "id": 2}', ""),
        ('{"policy": NaN}', ""),
        ({}, ""),
        ({"request": {"method": "ping"}, "http": {}}, ""),
        ({"request": {"tool": "x"}}, "request.method"),
        ({"request": {"method": "ping", "agent": "x"}}, "request.agent"),
        ({"request": {"method": 7}}, "request.method"),
        ({"request": []}, "request"),
        ({"request": {"method": "ping"}, "now": "tomorrow"}, "now"),
        ({"http": {"body_base64": "!"}}, "http.body_base64"),
        ({"http": {"headers": [["a"]]}}, "http.headers[0]"),
        ({"http": {"headers": {}}}, "http.headers"),
    ],
)
def test_an_unreadable_line_answers_an_error(line: dict[str, Any] | str, field: str) -> None:
    """The others are answered all the same, and the exit code tells at the end."""
    good = {"policy": POLICY, **request("read", agent_id="bot")}
    result = run(line, good)
    error, answer = answers(result)
    assert error["error"]["field"] == field
    assert error["error"]["problem"]
    assert error["error"]["mend"]
    assert answer["effect"] == "allow"
    assert result.exit_code == 1


def test_an_unreadable_line_keeps_its_id_where_it_can_be_read() -> None:
    """Also where only a lenient reader finds it."""
    result = run({"id": "a", "request": {}}, '{"id": "b", "x": 1, "x": 2}', "{")
    assert [answer.get("id") for answer in answers(result)] == ["a", "b", None]


def test_blank_lines_are_skipped() -> None:
    """They ask nothing."""
    good = {"policy": POLICY, **request("read", agent_id="bot")}
    assert len(answers(run("", good, "  ", good))) == 2

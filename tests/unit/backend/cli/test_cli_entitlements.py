"""`access who-can`, `what-can`, `unused`, and what a dry run tells."""

import json
import re
from datetime import UTC, datetime
from uuid import uuid4

import orjson
import pytest
from click.testing import Result

from tests.contract.stored_events import event
from tests.unit.backend.cli.conftest import Governed, run
from tests.unit.backend.shop import shop as shop_of

OBJECTS = (
    shop_of("mcp-servers", end="2099-01-01T00:00:00Z", session_required=False)
    + """
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAgentSession
metadata: {name: careful, namespace: mcp-servers}
spec: {serverRef: {name: shop}, subject: {humanID: ada}, consentedTrust: low}
"""
)


@pytest.fixture(scope="module")
def shop(governed: Governed) -> Governed:
    """A policy, and one call that it decided a moment ago."""
    (governed.access / "objects.yaml").write_text(OBJECTS)
    members = {
        "rpc_method": "tools/call",
        "mode": "allow-list",
        "server": "shop",
        "namespace": "mcp-servers",
        "agent_id": "ops",
        "tool_name": "list",
        "decision": "allow",
        "reason": "allowed",
        "matched_grant": "reads",
        "matched_grant_namespace": "mcp-servers",
    }
    columns = ("server", "namespace", "agent_id", "tool_name", "decision", "reason")
    governed.store.insert(
        [
            event(
                uuid4(),
                1,
                event_id=str(uuid4()),
                event_time=datetime.now(UTC),
                payload=orjson.dumps(members).decode(),
                **{name: members[name] for name in columns},
            )
        ]
    )
    return governed


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [re.sub(r"\s+", " ", line).strip() for line in result.stdout.splitlines()]


def ask(shop: Governed, *words: str) -> list[str]:
    return lines(run("access", *words, *shop.by_api))


def test_who_can_tells_callers_grants_rules_and_ends(shop: Governed) -> None:
    """Those who can first; a session that makes a difference has a line of its own."""
    assert ask(shop, "who-can", "refund", "--server", "mcp-servers/shop") == [
        "refund: needs trust high, side effect destructive",
        "CALLER CAN GRANT RULE UNTIL WHY",
        "ops for ada yes mcp-servers/refunds every tool 2099-01-01T00:00:00Z"
        " allowed: grant mcp-servers/refunds allows `refund`",
        "ops for ada (session careful) no mcp-servers/reads refund:allow -"
        " trust_too_low: `refund` needs high, effective is low",
        "ops no mcp-servers/reads refund:allow -"
        " trust_too_low: `refund` needs high, effective is medium",
        "anybody else no - - - no_matching_grant: default decision: deny",
        "note: callers say themselves who they are: set auth.trustedPeers, or use mode oauth",
    ]


def test_names_are_who_can(shop: Governed) -> None:
    """For scripts: callers that can, tools that a caller can call, grants that nobody used."""
    server = ("--server", "mcp-servers/shop")
    assert ask(shop, "who-can", "refund", *server, "-o", "name") == ["ops for ada"]
    assert ask(shop, "what-can", "--agent", "ops", "-o", "name") == ["mcp-servers/shop/list"]
    assert ask(shop, "unused", "-o", "name") == ["mcp-servers/refunds"]


def test_what_can_hints_at_closer_callers(shop: Governed) -> None:
    """The agent alone can less than the agent for its human."""
    told = ask(shop, "what-can", "--agent", "ops")
    assert told[0] == "mcp-servers/shop:"
    assert told[2].startswith("list - yes mcp-servers/reads list:allow - allowed")
    assert told[3].startswith("refund - no mcp-servers/reads refund:allow - trust_too_low")
    assert told[4].startswith("any other - no - - - tool_not_granted")
    assert "as ops for ada: ask with those fields, too" in told[5]


def test_unused_says_what_is_not_stored(shop: Governed) -> None:
    """Grants and rules without a call; the window is longer than the store."""
    result = run("access", "unused", *shop.by_api)
    assert lines(result)[1:] == [
        "mcp-servers/reads refund:allow ops unused 0 -",
        "mcp-servers/refunds - ops for ada unused 0 -",
    ]
    assert "what was used before is not known" in result.stderr
    assert json.loads(run("access", "unused", "--json", *shop.by_api).stdout)["complete"] is False


def test_a_dry_run_tells_which_calls_would_notice(shop: Governed) -> None:
    """Nothing is changed; the call of a moment ago would be denied."""
    told = ask(shop, "grant", "disable", "reads", "--dry-run")
    assert told[0] == "grant mcp-servers/reads would be disabled"
    assert told[1].startswith("1 of 1 calls since ")
    assert told[3] == "1 ops list allow: allowed deny: grant_disabled"
    assert ask(shop, "grant", "list")[1] == "reads mcp-servers shop false"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["who-can", "t", "--server", "shop"], 2, "NAMESPACE/NAME"),
        (["who-can", "t", "--server", "mcp-servers/none"], 1, "mcp-servers/none"),
        (["what-can"], 2, "give --agent, --human or --team"),
        (["unused", "--since", "yesterday"], 2, "yesterday"),
    ],
)
def test_bad_questions(shop: Governed, words: list[str], code: int, said: str) -> None:
    """One line with the mend."""
    result = run("access", *words, *shop.by_api)
    assert result.exit_code == code
    assert said in result.stderr

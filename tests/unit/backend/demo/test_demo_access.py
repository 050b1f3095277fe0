"""The example access directory, against the server it describes and the decisions it leads to."""

import json
from pathlib import Path

import pytest
import yaml

import backend.demo
from backend.demo.server import build_server
from extauthz.core.compile import compile_document
from extauthz.core.decide import Snapshot
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.render import render
from extauthz.core.request import Request
from extauthz.core.resources import parse_object

ACCESS = Path(backend.demo.__file__).parent / "access"
NOW = 1_800_000_000.0


def objects() -> list[MCPServer | MCPAccessGrant | MCPAgentSession]:
    return [
        parse_object(document)
        for file in sorted(ACCESS.glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_bytes())
    ]


def the_server() -> MCPServer:
    (server,) = [item for item in objects() if isinstance(item, MCPServer)]
    return server


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    document = render(
        the_server(),
        [item for item in objects() if isinstance(item, MCPAccessGrant)],
        [item for item in objects() if isinstance(item, MCPAgentSession)],
        generated_at="2026-11-22T00:00:00Z",
    )
    return Snapshot.of(compile_document(document), NOW)


OPS = {"x-mcp-agent-id": "ops-agent"}
ALICE = {"x-mcp-human-id": "alice@example.com", "x-mcp-agent-id": "finance-agent"}


@pytest.mark.parametrize(
    ("who", "tool", "reason"),
    [
        (OPS, "list_invoices", "allowed"),
        (OPS, "echo", "allowed"),
        (OPS, "slow_report", "allowed"),
        (OPS, "create_invoice", "tool_not_granted"),
        (OPS, "refund_invoice", "tool_not_granted"),
        (ALICE, "refund_invoice", "allowed"),
        (ALICE, "echo", "tool_not_granted"),
        (ALICE | {"x-mcp-agent-session": "alice-reviews"}, "refund_invoice", "trust_too_low"),
        (ALICE | {"x-mcp-agent-session": "alice-reviews"}, "create_invoice", "allowed"),
        ({"x-mcp-agent-id": "finance-agent"}, "refund_invoice", "no_matching_grant"),
        ({}, "echo", "missing_identity"),
    ],
)
def test_the_example_decides_as_its_comments_say(
    snapshot: Snapshot, who: dict[str, str], tool: str, reason: str
) -> None:
    """What the comments in the example promise is what is decided."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}}
    headers = {"content-type": "application/json", **who}
    request = Request(
        "POST",
        "/mcp",
        tuple((name, value.encode()) for name, value in headers.items()),
        json.dumps(body).encode(),
    )
    assert snapshot.decide(request, NOW).reason == reason


async def test_every_tool_is_declared() -> None:
    """The example declares the server's tools, all of them and no others."""
    served = {tool.name for tool in await build_server().list_tools()}
    assert {tool.name for tool in the_server().tools} == served


async def test_side_effects_agree_with_the_tools_own_annotations() -> None:
    """A tool that calls itself read-only or destructive is declared so."""
    declared = {tool.name: tool.side_effect for tool in the_server().tools}
    for tool in await build_server().list_tools():
        if tool.annotations is None:
            continue
        if tool.annotations.read_only_hint:
            own = "read"
        else:
            own = "destructive" if tool.annotations.destructive_hint else "write"
        assert declared[tool.name] == own, tool.name

"""Policy documents of any size, and the calls that are sent under them."""

import json
from typing import Any

CALLER = "agent-last"
TOOLS = ("search", "fetch", "summarise", "write_note", "delete_note")
ALLOWED, DENIED = "search", "delete_note"
SESSION = "session-last"
_EFFECTS = ("read", "read", "read", "write", "destructive")


def document(grants: int) -> dict[str, Any]:
    """A policy with so many grants, each of a subject of its own; the caller's is the last."""
    agents = [f"agent-{number:06}" for number in range(grants - 1)] + [CALLER]
    return {
        "schema_version": "v1",
        "server": {"name": "notes", "namespace": "team-a", "cluster": "bench"},
        "auth": {"mode": "header"},
        "policy": {"mode": "allow-list", "default_decision": "deny", "policy_version": "v7"},
        "session": {"required": True},
        "tools": [
            {"name": name, "required_trust": "low", "side_effect": effect}
            for name, effect in zip(TOOLS, _EFFECTS, strict=True)
        ],
        "grants": [grant(number, agent) for number, agent in enumerate(agents)],
        "sessions": [
            {
                "name": SESSION,
                "namespace": "team-a",
                "agent_id": CALLER,
                "consented_trust": "medium",
                "expires_at": "2099-01-01T00:00:00Z",
            }
        ],
    }


def grant(number: int, agent: str, trust: str = "medium") -> dict[str, Any]:
    """One grant, as rendered."""
    return {
        "name": f"grant-{number:06}",
        "namespace": "team-a",
        "agent_id": agent,
        "max_trust": trust,
        "allowed_side_effects": ["read", "write"],
        "expires_at": "2099-01-01T00:00:00Z",
        "tool_rules": [
            {"name": "search", "decision": "allow"},
            {"name": "fetch", "decision": "allow", "required_trust": "medium"},
            {"name": DENIED, "decision": "deny"},
        ],
    }


def request(tool: str) -> bytes:
    """A call as a client sends it over HTTP/1.1."""
    arguments = {"query": "quarterly figures", "limit": 20, "fields": ["title", "author", "year"]}
    body = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 12,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments, "_meta": {"progressToken": 12}},
        }
    ).encode()
    head = {
        "Host": "127.0.0.1",
        "User-Agent": "bench",
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": "2025-11-25",
        "Mcp-Session-Id": "5f2c1d0e9b8a47c6",
        "X-MCP-Agent-ID": CALLER,
        "X-MCP-Agent-Session": SESSION,
        "Content-Length": str(len(body)),
    }
    lines = ["POST /mcp HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body

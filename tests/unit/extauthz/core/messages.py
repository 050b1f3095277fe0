"""Requests for the tests of core: a legacy and a modern tools/call, and ways to bend them."""

import json
from typing import Any

from extauthz.core.methods import VERSION_KEY
from extauthz.core.request import Request

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
SECRET = "s3cr3t-argument"  # must never show in a refusal, an event or a log


def post(body: bytes | dict[str, Any] | list[Any], *headers: tuple[str, str]) -> Request:
    """A POST of `body` as one application/json, with `headers` after it."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    every = (("content-type", "application/json"), *headers)
    return Request("POST", "/mcp", tuple((n.lower(), v.encode()) for n, v in every), raw)


def legacy_call(tool: str = "echo", **members: Any) -> dict[str, Any]:
    """The body of a legacy tools/call; `members` replace those of the envelope."""
    return {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": tool, "arguments": {"text": SECRET}},
    } | members


def modern_call(tool: str = "echo", **members: Any) -> dict[str, Any]:
    """The body of a modern tools/call."""
    body = legacy_call(tool)
    body["params"]["_meta"] = {VERSION_KEY: MODERN}
    return body | members


def modern_headers(tool: str = "echo", method: str = "tools/call") -> tuple[tuple[str, str], ...]:
    """The headers that go with `modern_call`."""
    return (
        ("mcp-protocol-version", MODERN),
        ("mcp-method", method),
        ("mcp-name", tool),
    )

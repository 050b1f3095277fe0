"""What must hold of every request, whatever it is."""

import json

from extauthz.core.canonical import canonical, digest
from extauthz.core.decide import Snapshot
from extauthz.core.request import Request
from extauthz.response import to_response
from protos.gen.external_auth_pb2 import CheckResponse
from tests.fuzz.readings import tool_calls

GRANTED = "echo"


def check(snapshot: Snapshot, request: Request) -> bool:
    """Decide and answer; true where it was allowed.

    Raises:
        AssertionError: a reading of an allowed request disagrees with the gate's.
    """
    decision = snapshot.decide(request, snapshot.confirmed_at).identified("0190-id")
    answer = CheckResponse.FromString(to_response(decision))
    assert (answer.status.code == 0) == decision.allowed
    if not decision.allowed:
        return False
    call = decision.call
    assert not call.is_tool_call or call.tool == GRANTED
    found = tool_calls(request.body)
    assert found == ({call.tool} if call.is_tool_call else set()), found
    if call.is_tool_call:  # the event tells of the arguments that the server reads
        arguments = json.loads(request.body)["params"].get("arguments", {})
        assert call.arguments_digest == digest(canonical(arguments))
    return True


def build_request(selector: int, body: bytes) -> Request:
    """A POST; the selector's bits choose what its headers claim."""
    versions = ("", "2024-11-05", "2025-03-26", "2025-11-25", "2026-07-28", "2026-07-28", "x", "")
    names = ("", "echo", "refund", "=?base64?ZWNobw==?=")
    methods = ("", "tools/call", "ping", "call_tool")
    version, name = versions[selector & 7], names[selector >> 3 & 3]
    claimed = {
        "content-type": "application/json",
        "x-mcp-agent-id": "corpus-agent",
        "mcp-protocol-version": version,
        "mcp-name": name,
        "mcp-method": methods[selector >> 5 & 3],
    }
    headers = tuple((key, value.encode()) for key, value in claimed.items() if value)
    return Request("POST", "/mcp", headers, body)


def selector_of(headers: dict[str, str]) -> int:
    """The selector whose headers come nearest to these."""
    selector = 4 if headers.get("mcp-protocol-version") == "2026-07-28" else 3
    selector |= {"echo": 1, "refund": 2}.get(headers.get("mcp-name", ""), 0) << 3
    return selector | (1 << 5 if "mcp-method" in headers else 0)

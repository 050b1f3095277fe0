"""MCP's revisions and methods, from the specification's schemas up to 2026-07-28."""

import re
import unicodedata

LEGACY_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN_VERSIONS = ("2026-07-28",)
KNOWN_VERSIONS = LEGACY_VERSIONS + MODERN_VERSIONS

# The key in `params._meta` by which a modern body states its revision.
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"

MAX_METHOD_CHARS = 1024

TOOL_CALLS = frozenset({"tools/call", "call_tool"})  # call_tool: mcp-runtime's older spelling

REQUESTS = TOOL_CALLS | {
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tools/list",
}

NOTIFICATIONS = frozenset(
    {
        "notifications/cancelled",
        "notifications/elicitation/complete",
        "notifications/initialized",
        "notifications/message",
        "notifications/progress",
        "notifications/roots/list_changed",
        "notifications/tasks/status",
    }
)

_SLASHES = re.compile("/{2,}")


def reads_as_tool_call(method: str) -> bool:
    """True where a lenient server could take `method` for one of `TOOL_CALLS`, which it is not.

    Without regard to case, compatibility forms, white space, what does not print, and slashes
    that a router takes off.
    """
    folded = unicodedata.normalize("NFKC", method).casefold()
    plain = "".join([char for char in folded if char.isprintable() and not char.isspace()])
    return method not in TOOL_CALLS and _SLASHES.sub("/", plain).strip("/") in TOOL_CALLS


# The member of params that the header Mcp-Name repeats (modern era).
NAMED_BY = {
    "tools/call": "name",
    "call_tool": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/cancel": "taskId",
    "tasks/get": "taskId",
    "tasks/result": "taskId",
    "tasks/update": "taskId",
}
NAME_REQUIRED = frozenset({"tools/call", "prompts/get", "resources/read"})

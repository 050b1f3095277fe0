"""Rows for a store, as the processor makes them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from backend.ports.event_store import StoredEvent

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
_FROM_PAYLOAD = (
    "request_id", "server", "namespace", "team_id", "cluster", "human_id", "agent_id",
    "session_id", "decision", "reason", "tool_name",
)  # fmt: skip


def event_id(number: int) -> str:
    """A UUIDv7 of that minute before noon, so that larger numbers are older."""
    ms = int((NOON - timedelta(minutes=number)).timestamp() * 1000)
    return str(UUID(int=ms << 80 | 0x7000 << 64 | 1 << 63 | number))


def row(
    number: int,
    payload: dict[str, Any] | None = None,
    event_type: str = "mcp.request",
    payload_text: str = "",
    **more: Any,
) -> StoredEvent:
    """An event of `number` minutes before noon; columns are filled from its payload.

    Args:
        payload_text: the payload, as it came.
        more: members of the row that are others.
    """
    payload = payload or {}
    columns = {name: payload[name] for name in _FROM_PAYLOAD if name in payload}
    members: dict[str, Any] = {
        "event_time": NOON - timedelta(minutes=number),
        "event_id": event_id(number),
        "source": "mcp-proxy",
        "event_type": event_type,
        "payload": payload_text or json.dumps(payload),
        "producer": "sidecar",
        "declared_tool": payload.get("tool_name", ""),
        "topic_id": UUID(int=1),
        "log_partition": 0,
        "log_offset": number,
    }
    return StoredEvent(**members | columns | more)

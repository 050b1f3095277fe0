"""`/events` and `/stats`."""

from collections.abc import Sequence
from typing import Any, Final

import orjson
from flask import Blueprint, Response, g, request

from backend.api.answers import json_response
from backend.auth.principal import Principal, Scope
from backend.ports import EventStore, StoredEvent
from extauthz.core.events import INTERNAL_TYPES, EventType
from extauthz.core.times import format_instant

DEFAULT_LIMIT: Final = 100
MOST: Final = 1000
OUTCOMES: Final = frozenset({EventType.RESPONSE.value})  # shown within their calls alone
INTERNAL: Final = frozenset(event_type.value for event_type in INTERNAL_TYPES)

# Members of an outcome that belong to its call.
_OUTCOME_MEMBERS: Final = ("status", "latency_ms", "bytes_in", "bytes_out", "response_flags")
_OPTIONAL: Final = (
    "trace_id",
    "server",
    "namespace",
    "team_id",
    "cluster",
    "human_id",
    "agent_id",
    "session_id",
    "decision",
    "tool_name",
    "event_id",
    "reason",
    "producer",
)


def events_blueprint(store: EventStore) -> Blueprint:
    """Reads events; the scope `read`, for all namespaces."""
    blueprint = Blueprint("events", __name__)

    @blueprint.before_request
    def authorize() -> None:
        principal: Principal = g.principal
        principal.require_everywhere(Scope.READ)

    @blueprint.get("/events")
    def recent() -> Response:
        events = store.recent(read_limit(request.args.get("limit", "")), OUTCOMES)
        return json_response({"events": described(store, events)})

    @blueprint.get("/stats")
    def stats() -> Response:
        return json_response({"events_total": store.total(INTERNAL)})

    return blueprint


def read_limit(text: str) -> int:
    """Clamped to 1…1000; what cannot be read counts as not given."""
    try:
        return max(1, min(MOST, int(text)))
    except ValueError:
        return DEFAULT_LIMIT


def described(store: EventStore, events: Sequence[StoredEvent]) -> list[dict[str, Any]]:
    """Events as the api shows them, outcomes that came apart merged into their calls."""
    calls = [e for e in events if e.event_type == EventType.REQUEST]
    outcomes = (
        store.outcomes([e.event_id for e in calls], min(e.event_time for e in calls))
        if calls
        else {}
    )
    return [describe(event, outcomes.get(event.event_id, "")) for event in events]


def describe(event: StoredEvent, outcome: str = "") -> dict[str, Any]:
    """One event.

    Args:
        outcome: payload of the `mcp.response` that belongs to it; empty when none came apart.
    """
    payload: Any = orjson.Fragment(event.payload)
    if outcome:
        payload = merged(orjson.loads(event.payload), orjson.loads(outcome))
    members = {
        "timestamp": format_instant(event.event_time.timestamp()),
        "source": event.source,
        "event_type": event.event_type,
        "payload": payload,
    }
    return members | {name: value for name in _OPTIONAL if (value := getattr(event, name))}


def merged(call: Any, outcome: Any) -> Any:
    """A call's payload with its outcome; what the call already says stays."""
    if not isinstance(call, dict) or not isinstance(outcome, dict):
        return call
    return {name: outcome[name] for name in _OUTCOME_MEMBERS if name in outcome} | call

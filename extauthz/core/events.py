"""The audit event: its envelope, the payload of a call, and what ingest accepts."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import orjson

from extauthz.core.decision import Decision
from extauthz.core.errors import Invalid
from extauthz.core.times import parse_instant
from extauthz.core.value import value

MAX_NAME_BYTES = 256  # identities and tool names in events
MAX_PATH_BYTES = 1024


class EventType(StrEnum):
    """The event types that Sentinel itself makes; foreign producers may send others."""

    REQUEST = "mcp.request"  # one per call: decision and outcome
    RESPONSE = "mcp.response"  # an outcome that came too late to join its call
    GOVERNANCE_CHANGE = "governance.change"  # who changed which grant or session
    GATEWAY_START = "gateway.start"
    GATEWAY_HEARTBEAT = "gateway.heartbeat"
    AUDIT_GAP = "audit.gap"  # a range of sequences that was lost, and why


# Left out of statistics: they are about the audit trail, not about calls.
INTERNAL_TYPES = frozenset(EventType) - {EventType.REQUEST}


@value(frozen=True, slots=True)
class Envelope:
    """What travels to ingest and lies in the log.

    Args:
        event_id: UUIDv7, made by the producer.
        timestamp: RFC 3339.
        trace_id: W3C trace id; empty when not traced.
        source: producer's name, such as `mcp-proxy`.
        event_type: see `EventType`.
        payload: a JSON object.
    """

    event_id: str
    timestamp: str
    source: str
    event_type: str
    payload: Mapping[str, Any]
    trace_id: str = ""

    def to_json(self) -> bytes:
        """One line of JSON, without a line end."""
        payload = self.payload
        members: dict[str, Any] = {"event_id": self.event_id, "timestamp": self.timestamp}
        if self.trace_id:
            members["trace_id"] = self.trace_id
        members |= {
            "source": self.source,
            "event_type": self.event_type,
            "payload": payload if type(payload) is dict else dict(payload),
        }
        return orjson.dumps(members)


@value(frozen=True, slots=True)
class Asked:
    """What an event keeps of the HTTP request; the body and the headers are gone.

    Args:
        method: HTTP method.
        path: path without its query.
        request_id: Envoy's x-request-id.
        trace_id: from traceparent; empty when not traced.
    """

    method: str
    path: str
    request_id: str = ""
    trace_id: str = ""


@value(frozen=True, slots=True)
class Outcome:
    """How a call ended, from Envoy's access log.

    Args:
        status: HTTP status; 0 when none was sent.
        latency_ms: first byte received to last byte sent, milliseconds.
        bytes_in, bytes_out: body bytes.
        response_flags: Envoy's short flags, comma-separated; empty when none.
    """

    status: int
    latency_ms: float
    bytes_in: int
    bytes_out: int
    response_flags: str = ""


def cap(name: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """Cut a caller's string to `max_bytes` of UTF-8, never inside a character."""
    if len(name) * 4 <= max_bytes:
        return name
    return name.encode("utf-8", "replace")[:max_bytes].decode("utf-8", "ignore")


def call_payload(decision: Decision, asked: Asked) -> dict[str, Any]:
    """The payload of `mcp.request`, without outcome, gateway and sequence.

    Fields that are always there come first, then those that are known.
    """
    policy, identity, call = decision.policy, decision.identity, decision.call
    payload: dict[str, Any] = {
        "decision_id": decision.id,
        "request_id": cap(asked.request_id),
        "method": cap(asked.method),
        "path": cap(asked.path, MAX_PATH_BYTES),
        "server": policy.server,
        "namespace": policy.namespace,
        "cluster": policy.cluster,
        "team_id": policy.team_id,
        "human_id": cap(identity.human_id),
        "agent_id": cap(identity.agent_id),
        "subject_team_id": cap(identity.team_id),
        "session_id": cap(identity.session_id),
        "decision": decision.effect.value,
        "reason": decision.reason.value,
        "mode": policy.mode,
        "policy_version": decision.policy_version or policy.version,
        "policy_revision": policy.revision,
    }
    trust = decision.trust
    for name, known in (
        ("rpc_method", cap(call.method)),
        ("tool_name", cap(call.tool)),
        ("protocol_version", cap(call.protocol_version)),
        ("arguments_digest", call.arguments_digest),
        ("required_trust", trust.required),
        ("admin_trust", trust.admin),
        ("consented_trust", trust.consented),
        ("effective_trust", trust.effective),
        ("required_side_effect", decision.side_effect),
        ("risk_level", decision.risk),
    ):
        if known:
            payload[name] = known
    if decision.grant:
        payload["matched_grant"] = decision.grant.name
        payload["matched_grant_namespace"] = decision.grant.namespace
    if decision.session:
        payload["matched_session"] = decision.session.name
        payload["matched_session_namespace"] = decision.session.namespace
    if decision.would:
        payload["would_decision"] = decision.would.effect.value
        payload["would_reason"] = decision.would.reason.value
    if call.tool and not decision.tool_declared:
        payload["tool_undeclared"] = True
    return payload


def outcome_payload(outcome: Outcome) -> dict[str, Any]:
    """The members that an outcome adds to a call's payload."""
    return {
        "status": outcome.status,
        "latency_ms": round(outcome.latency_ms, 3),
        "bytes_in": outcome.bytes_in,
        "bytes_out": outcome.bytes_out,
        "response_flags": outcome.response_flags,
    }


def check_envelope(value: object, where: str = "") -> dict[str, Any]:
    """Validate one received envelope (`source`, `event_type` and `payload` are required).

    Args:
        value: parsed JSON.
        where: prefix for field names, such as `[3].`; empty for a single envelope.

    Returns:
        The same object. Unknown members are kept.

    Raises:
        Invalid: naming the first field that is missing or wrong.
    """
    if not isinstance(value, dict):
        raise Invalid(where.rstrip("."), "an event must be a JSON object", "send its members")
    for name in ("source", "event_type"):
        text = value.get(name)
        if not isinstance(text, str) or not text.strip():
            raise Invalid(where + name, "must be a non-blank string", f"send `{name}`")
    if value.get("payload") is None:
        raise Invalid(where + "payload", "is missing or null", "send any JSON value but null")
    for name in ("event_id", "timestamp", "trace_id"):
        if name in value and not isinstance(value[name], str):
            raise Invalid(where + name, "must be a string", "send a string or leave it out")
    if value.get("timestamp"):
        parse_instant(value["timestamp"], where + "timestamp")
    return value

"""The audit event: its envelope, the payload of a call, and what ingest accepts."""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from extauthz.core.decision import Decision
from extauthz.core.errors import Invalid
from extauthz.core.times import parse_instant

MAX_NAME_BYTES = 256  # identities and tool names in events
MAX_PATH_BYTES = 1024

_JSON = msgspec.json.Encoder()


class EventType(StrEnum):
    """The event types that Sentinel itself makes; foreign producers may send others."""

    REQUEST = "mcp.request"  # one per call: decision and outcome
    RESPONSE = "mcp.response"  # an outcome that came too late to join its call
    GOVERNANCE_CHANGE = "governance.change"  # who changed which grant or session
    GOVERNANCE_RESTART = "governance.restart"  # who had which component started again
    GATEWAY_START = "gateway.start"
    GATEWAY_HEARTBEAT = "gateway.heartbeat"
    AUDIT_GAP = "audit.gap"  # a range of sequences that was lost, and why


# Left out of statistics: they are about the audit trail, not about calls.
INTERNAL_TYPES = frozenset(EventType) - {EventType.REQUEST}


class Cause(StrEnum):
    """Why events are missing from the trail; the `cause` of an `audit.gap`."""

    QUEUE_FULL = "queue_full"  # memory was full, and neither ingest nor disk took any
    REFUSED = "refused"  # ingest refused this very event
    UNENCODABLE = "unencodable"  # it cannot be written as JSON: a bug
    CRASH = "crash"  # the process ended with it in memory; it may have been received
    MARK_LOST = "mark_lost"  # the mark of the previous start is unreadable: extent unknown
    SPOOL_LOST = "spool_lost"  # the spool is unreadable: all of that start may be missing
    UNDECIDED_OVERFLOW = "undecided_overflow"  # ingest was away for more lines than are kept
    UNDECIDED_REPLACED = "undecided_replaced"  # the file was cut or replaced, perhaps unread


_Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class GapPayload(msgspec.Struct, frozen=True):
    """The payload of `audit.gap`, less the names that every payload of a gateway has.

    Args:
        lost_gateway_start: the start that took the sequences; empty where it is not known.
        first, last: inclusive; both 0 where the extent is unknown.
        count: of the sequences between.
        cause: see `Cause`; what is read may be of a version that knows of more.
    """

    lost_gateway_start: str
    first: _Number
    last: _Number
    count: _Number
    cause: str

    @classmethod
    def of(cls, lost_gateway_start: str, first: int, last: int, cause: str) -> "GapPayload":
        """With its count."""
        count = last - first + 1 if last else 0
        return cls(lost_gateway_start, first, last, count, str(cause))


class Envelope(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What travels to ingest and lies in the log.

    Args:
        event_id: UUIDv7, made by the producer.
        timestamp: RFC 3339.
        trace_id: W3C trace id; empty when not traced.
        source: producer's name, such as `mcp-proxy`.
        event_type: see `EventType`.
        payload: what JSON writes as an object; the last member, so that it can be added to.
    """

    event_id: str
    timestamp: str
    trace_id: str = ""
    source: str
    event_type: str
    payload: object

    def to_json(self) -> bytes:
        """One line of JSON, without a line end.

        Raises:
            TypeError, UnicodeError: it holds what JSON cannot, such as a lone surrogate.
        """
        return _JSON.encode(self)


class Asked(msgspec.Struct, frozen=True, gc=False):
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


Decided = tuple[Asked, Decision]


class Outcome(msgspec.Struct, frozen=True, gc=False):
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


class CallPayload(msgspec.Struct, omit_defaults=True):
    """The payload of `mcp.request`: members that are always there, then those that are known."""

    decision_id: str
    request_id: str
    method: str
    path: str
    server: str
    namespace: str
    cluster: str
    team_id: str
    human_id: str
    agent_id: str
    subject_team_id: str
    session_id: str
    decision: str
    reason: str
    mode: str
    policy_version: str
    policy_revision: str
    gateway: str
    gateway_start: str
    sequence: int
    rpc_method: str = ""
    tool_name: str = ""
    tool_undeclared: bool = False
    protocol_version: str = ""
    arguments_digest: str = ""
    required_trust: str = ""
    admin_trust: str = ""
    consented_trust: str = ""
    effective_trust: str = ""
    required_side_effect: str = ""
    risk_level: str = ""
    matched_grant: str = ""
    matched_grant_namespace: str = ""
    matched_session: str = ""
    matched_session_namespace: str = ""
    would_decision: str = ""
    would_reason: str = ""
    # How it ended, where that is known.
    status: int | UnsetType = UNSET
    latency_ms: float | UnsetType = UNSET
    bytes_in: int | UnsetType = UNSET
    bytes_out: int | UnsetType = UNSET
    response_flags: str | UnsetType = UNSET

    def end(self, outcome: Outcome) -> None:
        """Add how the call ended."""
        self.status = outcome.status
        self.latency_ms = round(outcome.latency_ms, 3)
        self.bytes_in, self.bytes_out = outcome.bytes_in, outcome.bytes_out
        self.response_flags = outcome.response_flags


def call_payload(
    decision: Decision, asked: Asked, *, gateway: str, gateway_start: str, sequence: int
) -> CallPayload:
    """The payload of `mcp.request`, as long as the call has not ended."""
    policy, identity, call, trust = (
        decision.policy,
        decision.identity,
        decision.call,
        decision.trust,
    )
    grant, session, would = decision.grant, decision.session, decision.would
    return CallPayload(  # in the order of its members: named, they would take ten times as long
        decision.id,
        cap(asked.request_id),
        cap(asked.method),
        cap(asked.path, MAX_PATH_BYTES),
        policy.server,
        policy.namespace,
        policy.cluster,
        policy.team_id,
        cap(identity.human_id),
        cap(identity.agent_id),
        cap(identity.team_id),
        cap(identity.session_id),
        decision.effect,
        decision.reason,
        policy.mode,
        decision.policy_version or policy.version,
        policy.revision,
        gateway,
        gateway_start,
        sequence,
        cap(call.method),
        cap(call.tool),
        bool(call.tool) and not decision.tool_declared,
        cap(call.protocol_version),
        call.arguments_digest,
        trust.required,
        trust.admin,
        trust.consented,
        trust.effective,
        decision.side_effect,
        decision.risk,
        grant.name if grant else "",
        grant.namespace if grant else "",
        session.name if session else "",
        session.namespace if session else "",
        would.effect if would else "",
        would.reason if would else "",
    )


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

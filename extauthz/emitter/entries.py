"""What waits in memory, and how it is written down."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from extauthz.core.canonical import keyed
from extauthz.core.decision import Decision
from extauthz.core.events import (
    Asked,
    Cause,
    Envelope,
    EventType,
    GapPayload,
    Outcome,
    call_payload,
    outcome_payload,
)
from extauthz.core.times import format_instant
from extauthz.emitter.options import EmitterOptions


@dataclass(frozen=True, slots=True)
class Gap:
    """A run of sequences that is missing from the trail.

    Args:
        gateway_start: the start that took the sequences.
        first, last: inclusive; both 0 where the extent is unknown.
        cause: why.
    """

    gateway_start: str
    first: int
    last: int
    cause: Cause

    @property
    def count(self) -> int:
        return self.last - self.first + 1 if self.last else 0

    def to_payload(self) -> dict[str, Any]:
        """The payload of `audit.gap`. `gateway_start` names the start that lost them."""
        told = GapPayload.of(self.gateway_start, self.first, self.last, self.cause)
        return msgspec.structs.asdict(told)


class Call(msgspec.Struct, eq=False):
    """A decided call.

    Args:
        sequence: its place in this start.
        at: when, seconds since the epoch.
        since: when, seconds of the monotonic clock.
        asked, decision: what was asked and decided.
        runs: it was let pass, and its end is not known yet.
        outcome: how it ended, once known.
        left: whether it is on its way already, so that an outcome comes too late.
        held: it may not leave yet: the disk has still to take it, or the decision changes.
        body: as it lies in the journal, without outcome; empty where it was not written.
    """

    sequence: int
    at: float
    since: float
    asked: Asked
    decision: Decision
    runs: bool
    outcome: Outcome | None = None
    left: bool = False
    held: bool = False
    body: bytes = b""


@dataclass(slots=True, eq=False)
class Notice:
    """An event that is complete from the first.

    Args:
        sequence, at, since: as in `Call`.
        event_id: UUIDv7.
        event_type: see `core.events.EventType`.
        payload: without gateway, gateway_start and sequence.
        trace_id: W3C trace id, or empty.
    """

    sequence: int
    at: float
    since: float
    event_id: str
    event_type: str
    payload: dict[str, Any]
    trace_id: str = ""


@dataclass(slots=True, eq=False)
class Dropped:
    """A run of sequences for which there was no room, in its place in the queue."""

    sequence: int
    last: int


@dataclass(slots=True, eq=False)
class Line:
    """An event as it lies in the spool and goes to ingest.

    Args:
        start: ordinal of the start that made it, in the spool.
        sequence: its place in that start.
        body: the envelope, one line of JSON.
        resent: whether ingest may have it already.
    """

    start: int
    sequence: int
    body: bytes
    resent: bool = False

    def to_wire(self) -> bytes:
        return b'{"resent":true,' + self.body[1:] if self.resent else self.body


class Encoder:
    """Writes entries as envelopes of one gateway and one start."""

    def __init__(self, options: EmitterOptions, gateway_start: str) -> None:
        self._options, self._gateway_start = options, gateway_start

    def encode(self, entry: Call | Notice) -> bytes:
        """One line of JSON.

        Raises:
            TypeError, UnicodeError: the entry holds what JSON cannot, such as a lone surrogate.
        """
        if isinstance(entry, Call):
            return self._encode_call(entry)
        return self._envelope(
            entry,
            entry.event_id,
            entry.event_type,
            entry.trace_id,
            {
                "server": self._options.server,
                "namespace": self._options.namespace,
                "cluster": self._options.cluster,
                **entry.payload,
                "gateway": self._options.gateway,
                "gateway_start": self._gateway_start,
                "sequence": entry.sequence,
            },
        )

    def _encode_call(self, call: Call) -> bytes:
        if call.body:
            return _with_outcome(call.body, call.outcome)
        payload = call_payload(
            call.decision,
            call.asked,
            gateway=self._options.gateway,
            gateway_start=self._gateway_start,
            sequence=call.sequence,
        )
        if self._options.digest_key and payload.arguments_digest:
            payload.arguments_digest = keyed(payload.arguments_digest, self._options.digest_key)
        if call.outcome is not None:
            payload.end(call.outcome)
        event_type = self._options.call_event_type
        return self._envelope(call, call.decision.id, event_type, call.asked.trace_id, payload)

    def _envelope(
        self, entry: Call | Notice, event_id: str, event_type: str, trace_id: str, payload: object
    ) -> bytes:
        return Envelope(
            event_id=event_id,
            timestamp=format_instant(entry.at),
            trace_id=trace_id,
            source=self._options.source,
            event_type=event_type,
            payload=payload,
        ).to_json()


def _with_outcome(body: bytes, outcome: Outcome | None) -> bytes:
    """Add an outcome to an encoded call, whose payload is its last member."""
    if outcome is None:
        return body
    return body[:-2] + b"," + orjson.dumps(outcome_payload(outcome))[1:] + b"}"


def gap_of(body: bytes) -> Gap | None:
    """The gap that an encoded event tells of; None for any other event."""
    if b'"' + EventType.AUDIT_GAP.encode() + b'"' not in body:
        return None
    envelope = orjson.loads(body)
    if envelope["event_type"] != EventType.AUDIT_GAP:
        return None
    told = msgspec.convert(envelope["payload"], GapPayload)
    return Gap(told.lost_gateway_start, told.first, told.last, Cause(told.cause))


def fitting(lines: Sequence[Line], max_bytes: int) -> int:
    """How many of the first lines fit into a batch; one at least."""
    size = 0
    for place, line in enumerate(lines):
        size += len(line.body)
        if size > max_bytes and place:
            return place
    return len(lines)

"""The events of the undecided log."""

import hashlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from extauthz.core.decision import Effect, PolicyFacts
from extauthz.core.events import Envelope, EventType, GapPayload, outcome_payload
from extauthz.core.refusals import Refusal
from extauthz.core.times import format_instant
from extauthz.emitter.options import EmitterOptions
from extauthz.undecided.lines import UndecidedRequest
from extauthz.undecided.position import Loss


def identify(at: float, *parts: object) -> str:
    """A UUIDv7 of an instant whose random bits are a digest: the same for the same parts.

    Args:
        at: seconds since the epoch.
        parts: what makes it the one it is.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    noise = int.from_bytes(digest[:10], "big")
    milliseconds = int(at * 1000) & ((1 << 48) - 1)
    high = milliseconds << 16 | 0x7000 | noise >> 68
    low = 1 << 63 | noise & ((1 << 62) - 1)
    return str(UUID(int=high << 64 | low))


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event stands.

    Args:
        event_id: the same whenever the event is made.
        log: id of the log, which is the start that numbers it.
        sequence: its number there.
        at: seconds since the epoch.
    """

    event_id: str
    log: str
    sequence: int
    at: float


class Writer:
    """Writes events of one gateway.

    Args:
        options: of the emitter: who sends.
    """

    def __init__(self, options: EmitterOptions) -> None:
        self._options = options

    def request(self, place: Place, request: UndecidedRequest | None, facts: PolicyFacts) -> bytes:
        """The `mcp.request` of one line; of an unreadable one too.

        Nobody was identified, no policy asked and no decision made, so none is named.
        """
        payload: dict[str, Any] = {
            "server": facts.server,
            "namespace": facts.namespace,
            "cluster": facts.cluster,
            "team_id": facts.team_id,
            "decision": Effect.DENY.value,
            "reason": (request.reason if request else Refusal.GATEWAY_ERROR).value,
            "undecided": True,
        }
        if request is None:
            payload["unreadable"] = True
            return self._envelope(self._options.call_event_type, place, payload)
        payload |= {
            "request_id": request.asked.request_id,
            "method": request.asked.method,
            "path": request.asked.path,
            "protocol": request.protocol,
            "peer": request.peer,
            "response_details": request.details,
            **outcome_payload(request.outcome),
        }
        trace_id = request.asked.trace_id
        return self._envelope(self._options.call_event_type, place, payload, trace_id)

    def gap(self, place: Place, loss: Loss, facts: PolicyFacts) -> bytes:
        """The `audit.gap` of lines that no event tells of."""
        payload: dict[str, Any] = {
            "server": facts.server,
            "namespace": facts.namespace,
            "cluster": facts.cluster,
            **msgspec.structs.asdict(GapPayload.of(loss.log, loss.first, loss.last, loss.cause)),
        }
        return self._envelope(EventType.AUDIT_GAP, place, payload)

    def _envelope(
        self, event_type: str, place: Place, payload: dict[str, Any], trace_id: str = ""
    ) -> bytes:
        payload["gateway"] = self._options.gateway
        payload["gateway_start"] = place.log
        payload["sequence"] = place.sequence
        return Envelope(
            event_id=place.event_id,
            timestamp=format_instant(place.at),
            source=self._options.source,
            event_type=event_type,
            payload=payload,
            trace_id=trace_id,
        ).to_json()

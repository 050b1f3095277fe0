"""One line of the undecided log, understood."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from extauthz.core.errors import Invalid
from extauthz.core.events import Asked, Outcome
from extauthz.core.refusals import Refusal, refusal
from extauthz.core.request import Request
from extauthz.core.times import parse_instant
from extauthz.request import to_asked


@dataclass(frozen=True, slots=True)
class UndecidedRequest:
    """A request that got no decision.

    Args:
        asked: what was asked, as far as Envoy read it.
        outcome: how it ended.
        reason: why.
        details: Envoy's response code details.
        peer: the client's address, which is no identity.
        protocol: `HTTP/1.1` or `HTTP/2`.
        at: when it began, seconds since the epoch.
    """

    asked: Asked
    outcome: Outcome
    reason: Refusal
    details: str
    peer: str
    protocol: str
    at: float


def read_line(body: bytes) -> UndecidedRequest | None:
    """Read one line; None where it is torn or foreign."""
    try:
        line = orjson.loads(body)
        at = parse_instant(line["time"], "time")
    except (orjson.JSONDecodeError, Invalid, KeyError, TypeError):
        return None
    if at < 0:
        return None
    flags, details = _text(line, "flags"), _text(line, "details")
    outcome = Outcome(
        status=_whole(line, "status"),
        latency_ms=_whole(line, "duration_ms"),
        bytes_in=_whole(line, "bytes_in"),
        bytes_out=_whole(line, "bytes_out"),
        response_flags=flags,
    )
    request = Request(
        method=_text(line, "method"),
        path=_text(line, "path"),
        headers=(("traceparent", _text(line, "traceparent").encode()),),
        id=_text(line, "request_id"),
    )
    return UndecidedRequest(
        asked=to_asked(request),
        outcome=outcome,
        reason=refusal(outcome.status, flags, details),
        details=details,
        peer=_text(line, "peer"),
        protocol=_text(line, "protocol"),
        at=at,
    )


def _text(line: Mapping[str, Any], name: str) -> str:
    """A member; Envoy writes null or a dash for what is not there."""
    value = line.get(name)
    return value if isinstance(value, str) and value != "-" else ""


def _whole(line: Mapping[str, Any], name: str) -> int:
    value = line.get(name)
    return value if type(value) is int and value >= 0 else 0

"""What the store tells of the starts of gateways: values of EventStore's completeness part."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class GatewayRun:
    """What the store holds of one start of a gateway, as one producer sent it.

    Events without a number (no `gateway_start`, or sequence 0) make one run for each producer,
    server and namespace, with an empty `gateway_start`: `rows` and the times alone count there.

    Args:
        gateway, namespace, server: not empty where any of its events names it.
        first, last: least and greatest sequence.
        present: how many different sequences there are.
        rows: how many rows; more than `present` means duplicates.
        first_at, last_at: times of the earliest and the latest event.
        started: whether its `gateway.start` is among them.
        heartbeats: how many `gateway.heartbeat` are among them.
    """

    producer: str
    gateway: str
    gateway_start: str
    namespace: str
    server: str
    first: int
    last: int
    present: int
    rows: int
    first_at: datetime
    last_at: datetime
    started: bool
    heartbeats: int


@dataclass(frozen=True, slots=True)
class Hole:
    """A range of sequences, ends included, between two that are stored.

    No number of it is stored, whatever its time. It belongs to the time of the event behind
    it, so that nothing falls between two times that touch.

    Args:
        at: time of the event behind it.
    """

    producer: str
    gateway_start: str
    first: int
    last: int
    at: datetime

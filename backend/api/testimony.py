"""What gateways tell of their own losses, ends and heartbeats, read from stored events. Pure.

What cannot be read explains nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, TypeVar

import msgspec

from backend.api.spans import Span
from backend.ports.event_store import StoredEvent
from extauthz.core.events import GapPayload

Told = TypeVar("Told")
HEARTBEAT: Final = timedelta(seconds=30)  # of a gateway that does not tell of its own

_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


@dataclass(frozen=True, slots=True)
class Gap:
    """One `audit.gap`.

    Args:
        event: as it is stored; its `gateway_start` is of the start that tells.
        lost_start: the start that took the numbers; empty where that is not known.
        first, last: ends, included; both 0 where the extent is unknown.
        cause: why, as the gateway names it.
    """

    event: StoredEvent
    lost_start: str
    first: int
    last: int
    cause: str

    @property
    def span(self) -> Span:
        """Its range; an empty one where the extent is unknown."""
        return (self.first, self.last) if self.last else (0, -1)

    @property
    def count(self) -> int:
        return self.last - self.first + 1 if self.last else 0

    @property
    def at(self) -> datetime:
        return self.event.event_time


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a start ended, as the `gateway.start` of the next one tells.

    Args:
        next_sequence: the number that it would have taken next.
    """

    event: StoredEvent
    ended_start: str
    next_sequence: int

    @property
    def at(self) -> datetime:
        return self.event.event_time


class _StartPayload(msgspec.Struct):
    previous_gateway_start: str = ""  # the first start of a gateway knows of none
    previous_next_sequence: _Count = 0
    heartbeat_seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = HEARTBEAT.total_seconds()


def read_gaps(events: Iterable[StoredEvent]) -> Iterator[Gap]:
    """The gaps that can be read; those whose ends lie the wrong way round cannot."""
    for event, told in _read(events, GapPayload):
        if told.first <= told.last and (told.first or not told.last):
            yield Gap(event, told.lost_gateway_start, told.first, told.last, told.cause)


def read_endings(events: Iterable[StoredEvent]) -> Iterator[Ending]:
    """The ends told; the first start of a gateway tells of none."""
    for event, told in _read(events, _StartPayload):
        if told.previous_gateway_start and told.previous_next_sequence:
            yield Ending(event, told.previous_gateway_start, told.previous_next_sequence)


def read_heartbeats(events: Iterable[StoredEvent]) -> dict[tuple[str, str], timedelta]:
    """How often each start beats, by producer and gateway start."""
    return {
        (event.producer, event.gateway_start): timedelta(seconds=told.heartbeat_seconds)
        for event, told in _read(events, _StartPayload)
    }


def _read(events: Iterable[StoredEvent], kind: type[Told]) -> Iterator[tuple[StoredEvent, Told]]:
    for event in events:
        try:
            yield event, msgspec.json.decode(event.payload, type=kind)
        except msgspec.MsgspecError:
            continue

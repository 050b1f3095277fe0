"""What a fault is, and what every wiring's faults use."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Generic, Protocol, TypeVar

import aiohttp
import orjson
import uuid_utils

from backend.ports.event_log import EventLog
from tests.chaos.calls import Gateway
from tests.chaos.clock import Clock
from tests.chaos.poison import records

MODES = DURABLE, BEST_EFFORT = ("durable", "besteffort")
DAYS = 20  # that a batch of old events spans, within any retention
AT_WORK = 20  # calls that are decided while something else is away


@dataclass
class Run:
    """What a run needs to know of itself.

    Args:
        chance: decides all that is random.
        away_seconds: how long things stay away.
        foreign: ids of events that ingest took beside the gateways'.
        poisoned: records written straight to the log that nobody can store.
    """

    chance: Random
    away_seconds: float
    folder: Path
    foreign: list[str] = field(default_factory=list)
    poisoned: int = 0


class Pipeline(Protocol):
    """A wiring under test."""

    name: str
    run: Run
    clock: Clock
    gateways: list[Gateway]

    @property
    def store(self) -> Path:
        """Where chDB keeps the rows."""

    def event_log(self) -> EventLog:
        """Another client of the log, not started."""

    async def start(self) -> None: ...

    async def is_quiet(self) -> bool:
        """Whether no gateway holds an event, and all that the log holds is committed."""

    def is_tired(self) -> bool:
        """Whether it must be started anew before it can bear more."""

    async def stop(self) -> None:
        """Everything drains and ends well, the store included."""

    async def end(self) -> None:
        """Nothing of it runs any more, whatever has happened."""


P = TypeVar("P", bound=Pipeline)


@dataclass(frozen=True)
class Fault(Generic[P]):
    """One row of a wiring's table.

    Args:
        breaks: what it does.
        heals: how that ends.
        strike: does both; returns what was seen, which proves that it hit.
        modes: audit modes in which it has a meaning.
        bounded: strikes in the bounded run as well.
    """

    name: str
    breaks: str
    heals: str
    strike: Callable[[P], Awaitable[str]]
    modes: tuple[str, ...] = MODES
    bounded: bool = True


def dealt(faults: Sequence[Fault[P]], mode: str) -> list[Fault[P]]:
    """The share of a mode, where each fault is to strike in one of the two."""
    either = [fault for fault in faults if fault.modes == MODES]
    mine = either[MODES.index(mode) :: len(MODES)]
    return [fault for fault in faults if fault in mine or fault.modes == (mode,)]


async def all_decided(pipeline: Pipeline, count: int = AT_WORK) -> None:
    """Calls go on: so many are decided on every gateway from now on."""
    for gateway in pipeline.gateways:
        await gateway.decided(count)


async def away(pipeline: Pipeline) -> None:
    """Something is away; calls go on all the time."""
    until = time.monotonic() + pipeline.run.away_seconds
    await all_decided(pipeline)
    while time.monotonic() < until:
        await all_decided(pipeline)


async def clock_back(pipeline: Pipeline) -> str:
    """All clocks jump back by an hour, and later forward again."""
    pipeline.clock.shift(-3600)
    await away(pipeline)
    pipeline.clock.shift(0)
    await all_decided(pipeline)
    return "an hour back, then forth"


async def poison(pipeline: Pipeline) -> str:
    """Write records straight to the log, each wrong in another field, between good ones."""
    log = pipeline.event_log()
    await log.start()
    try:
        bad = records()
        for message in bad:
            await log.append([message])
    finally:
        await log.stop()
    pipeline.run.poisoned += len(bad)
    await all_decided(pipeline)
    return f"{len(bad)} records"


async def send_old_events(run: Run, url: str, key: str, per_day: int = 3) -> Sequence[str]:
    """Give ingest one batch of events that spans `DAYS` days.

    Returns:
        The days, as the store's parts are named; none where ingest did not take it.
    """
    now = datetime.now(UTC)
    ids, lines, days = [], [], []
    for back in range(1, DAYS + 1):
        moment = now - timedelta(days=back)
        days.append(f"{moment:%Y%m%d}")
        for _ in range(per_day):
            ids.append(str(uuid_utils.uuid7()))
            lines.append(
                orjson.dumps(
                    {
                        "event_id": ids[-1],
                        "timestamp": moment.isoformat(),
                        "source": "chaos-foreign",
                        "event_type": "foreign.note",
                        "payload": {"back": back},
                    }
                )
            )
    headers = {"x-api-key": key, "Content-Type": "application/x-ndjson"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=b"\n".join(lines), headers=headers) as response,
    ):
        if response.status != 202:
            return ()
    run.foreign += ids
    return days

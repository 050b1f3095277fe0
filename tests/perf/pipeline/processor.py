"""The processor alone, from a filled log, beside the bare insert of the same rows."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.perf.pipeline.processes import (
    Service,
    Usage,
    per_million,
    run_child,
    usage,
)
from tests.perf.pipeline.wirings import Wiring

_LOOK_SECONDS = 0.2
_LONGEST_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Processor:
    """One pass over the log; CPU is per million events.

    Args:
        cpu, engine_cpu, broker_cpu: embedded, the engine is a part of the processor.
        bare_*: the same bytes in the same batches into the same table.
        row_bytes: of one row on its way to the engine.
        rate_ratio, cpu_ratio: how near the limit; the engine counts on both sides, and the
            broker, which the limit does not need, on ours.
    """

    events: int
    events_per_second: float
    cpu: float
    engine_cpu: float
    broker_cpu: float
    row_bytes: float
    bare_events_per_second: float
    bare_cpu: float
    bare_engine_cpu: float
    rate_ratio: float
    cpu_ratio: float


def record(wiring: Wiring, log: str, events: int, folder: Path) -> None:
    """Keep the inserts of one pass over the log."""
    folder.mkdir()
    store(wiring, log, events, "recorded", folder)


def store(wiring: Wiring, log: str, events: int, name: str, recording: Path | None = None) -> None:
    """One pass over the log, into the store of that name."""
    with _processor(wiring, log, name, recording) as processor:
        _until_stored(processor, events)


def store_of(number: int) -> str:
    """The store that this round filled."""
    return f"processed_{number}"


def _processor(
    wiring: Wiring, log: str, name: str, recording: Path | None = None
) -> AbstractContextManager[Service]:
    """Of a consumer group of its own."""
    return wiring.service("processor", log, name, recording, {"KAFKA_GROUP": f"to-{name}"})


def measure(wiring: Wiring, log: str, events: int, recorded: Path, rounds: int) -> list[Processor]:
    """Limit and processor in turn, `rounds` times."""
    return [_once(wiring, log, events, recorded, number) for number in range(rounds)]


def _once(wiring: Wiring, log: str, events: int, recorded: Path, number: int) -> Processor:
    charge = ["--charge", *wiring.engine] if wiring.engine else []
    bare = run_child("bare", "insert", wiring.store(f"bare_{number}"), recorded, *charge)
    with _processor(wiring, log, store_of(number)) as processor:
        counted, seconds, cpu, engine, broker = _slope(wiring, processor, events)
    rate, bare_rate = counted / seconds, bare["events"] / bare["seconds"]
    bare_cpu = per_million(bare["cpu_seconds"], bare["events"])
    bare_engine = per_million(bare["charged_seconds"], bare["events"])
    return Processor(
        events=events,
        events_per_second=rate,
        cpu=cpu,
        engine_cpu=engine,
        broker_cpu=broker,
        row_bytes=bare["row_bytes"],
        bare_events_per_second=bare_rate,
        bare_cpu=bare_cpu,
        bare_engine_cpu=bare_engine,
        rate_ratio=rate / bare_rate,
        cpu_ratio=(bare_cpu + bare_engine) / (cpu + engine + broker),
    )


def _slope(
    wiring: Wiring, processor: Service, events: int
) -> tuple[int, float, float, float, float]:
    """(events, seconds, CPU of three) from the first insert to the last.

    So that neither the start nor the joining of the group counts.
    """
    groups: Sequence[Sequence[int]] = ([processor.pid], wiring.engine, wiring.broker)
    while not (first := _stored(processor)):
        time.sleep(_LOOK_SECONDS)
    begin, before = time.monotonic(), [usage(pids) for pids in groups]
    _until_stored(processor, events)
    seconds, after = time.monotonic() - begin, [usage(pids) for pids in groups]
    counted = events - first

    def cpu(earlier: Usage, later: Usage) -> float:
        return per_million(later.cpu_seconds - earlier.cpu_seconds, counted)

    own, engine, broker = (cpu(*pair) for pair in zip(before, after, strict=True))
    return counted, seconds, own, engine, broker


def _until_stored(processor: Service, events: int) -> None:
    deadline = time.monotonic() + _LONGEST_SECONDS
    while _stored(processor) < events:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{_stored(processor)} of {events} events stored; see its log")
        time.sleep(_LOOK_SECONDS)


def _stored(processor: Service) -> int:
    return int(processor.metric("processor_events_total", result="stored"))

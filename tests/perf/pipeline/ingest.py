"""Ingest alone, beside the bare append of the same messages to the same log."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.perf.pipeline.processes import KEY, per_million, run_child, usage
from tests.perf.pipeline.wirings import Wiring

# Connections by events in a request: enough to keep ingest busy.
CONNECTIONS = {1: 64, 100: 16, 1000: 4}


@dataclass(frozen=True, slots=True)
class Ingest:
    """Requests of `size` events; CPU is per million events, the generator's left out.

    Args:
        cpu, broker_cpu: ingest's and the broker's.
        events_per_cpu_second: of ingest alone.
        bare_*: the append without ingest.
        rate_ratio, cpu_ratio: how near the limit; the broker's CPU counts on both sides.
    """

    size: int
    connections: int
    events_per_second: float
    cpu: float
    broker_cpu: float
    events_per_cpu_second: float
    bare_events_per_second: float
    bare_cpu: float
    bare_broker_cpu: float
    rate_ratio: float
    cpu_ratio: float


def fill(wiring: Wiring, log: str, lines: Path) -> None:
    """Every event once, through ingest."""
    with wiring.service("ingest", log) as ingest:
        run_child(
            "load",
            ingest.events_url,
            KEY,
            lines,
            "--size",
            1000,
            "--connections",
            CONNECTIONS[1000],
        )


def measure(
    wiring: Wiring, lines: Path, filled: Path, rounds: int, seconds: float
) -> list[list[Ingest]]:
    """All sizes in turn, `rounds` times."""
    done: list[list[Ingest]] = []
    with wiring.service("ingest", "ingest") as ingest:
        for _ in range(rounds):
            done.append(
                [
                    _once(wiring, ingest.pid, ingest.events_url, size, lines, filled, seconds)
                    for size in CONNECTIONS
                ]
            )
    return done


def _once(
    wiring: Wiring, pid: int, url: str, size: int, lines: Path, filled: Path, seconds: float
) -> Ingest:
    own, broker = usage([pid]), usage(wiring.broker)
    given = ["--size", size, "--seconds", seconds]
    load = run_child("load", url, KEY, lines, *given, "--connections", CONNECTIONS[size])
    events = load["events"]
    cpu = per_million(usage([pid]).cpu_seconds - own.cpu_seconds, events)
    broker_cpu = per_million(usage(wiring.broker).cpu_seconds - broker.cpu_seconds, events)
    given += ["--at-once", CONNECTIONS[size], *_charge(wiring.broker)]
    bare = run_child("bare", "append", filled, wiring.log(f"bare-{size}"), *given)
    bare_cpu = per_million(bare["cpu_seconds"], bare["events"])
    bare_broker_cpu = per_million(bare["charged_seconds"], bare["events"])
    rate, bare_rate = events / load["seconds"], bare["events"] / bare["seconds"]
    return Ingest(
        size=size,
        connections=CONNECTIONS[size],
        events_per_second=rate,
        cpu=cpu,
        broker_cpu=broker_cpu,
        events_per_cpu_second=1e6 / cpu,
        bare_events_per_second=bare_rate,
        bare_cpu=bare_cpu,
        bare_broker_cpu=bare_broker_cpu,
        rate_ratio=rate / bare_rate,
        cpu_ratio=(bare_cpu + bare_broker_cpu) / (cpu + broker_cpu),
    )


def _charge(pids: Sequence[int]) -> list[object]:
    return ["--charge", *pids] if pids else []

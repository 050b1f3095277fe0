"""`python -m tests.perf.pipeline`: what an event costs from the sidecar to the store.

Both wirings, each figure beside its bare limit in the same run: on a machine that others use too,
only ratios of neighbours mean something. A figure is the median of its rounds.
"""

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from tests.perf.pipeline import disk, ingest, memory, processor, report, whole
from tests.perf.pipeline.disk import Disk
from tests.perf.pipeline.report import Found, median
from tests.perf.pipeline.traffic import CROWD, Fleet, Traffic
from tests.perf.pipeline.wirings import Wiring, cluster, embedded

WIRINGS: dict[str, Callable[[Path], AbstractContextManager[Wiring]]] = {
    "embedded": embedded,
    "cluster": cluster,
}
PACKAGES = ("aiohttp", "aiokafka", "chdb", "clickhouse-connect", "msgspec", "uvloop")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Args:
        events: in the filled log.
        rounds: of ingest and of the processor.
        seconds: of one load on ingest.
        way_seconds: at 1,000 events a second, and again at the maximal rate.
        memory_events: ten million are the aim's; a few minutes are enough to see a leak.
    """

    events: int = 120_000
    rounds: int = 3
    seconds: float = 1.5
    way_seconds: float = 15.0
    memory_events: int = 300_000


QUICK = Plan(events=40_000, rounds=1, seconds=1.0, way_seconds=6.0, memory_events=50_000)


def main() -> int:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf.pipeline", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute or two, for development")
    parser.add_argument("--wiring", choices=WIRINGS, help="this one alone")
    parser.add_argument("--memory-events", type=int, help="10000000 for the aim's long run")
    parser.add_argument(
        "--memory-only", action="store_true", help="print MB at each tenth, and end"
    )
    parser.add_argument("--out", type=Path, default=report.REPORT, help="the report's file")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every process is ended
    plan = QUICK if arguments.quick else Plan()
    memory_events = arguments.memory_events or plan.memory_events
    names = [arguments.wiring] if arguments.wiring else list(WIRINGS)
    found: dict[str, Found] = {}
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_room()) as scratch:
        folder = Path(scratch)
        lines = _lines(folder / "lines", Fleet(), plan.events)
        if arguments.memory_only:
            for name in names:
                with WIRINGS[name](_made(folder / name)) as wiring:
                    memory.measure(
                        wiring, lines, memory_events, lambda told: print(told, flush=True)
                    )
            return 0
        with embedded(_made(folder / "common")) as common:
            ingest.fill(common, "filled", lines)
            filled, recorded = Path(urlsplit(common.log("filled")).path), folder / "recorded"
            processor.record(common, "filled", plan.events, recorded)
            log = disk.log(filled)
            crowd = _crowd(common, _lines(folder / "crowd", CROWD, plan.events), plan.events)
        for name in names:
            with WIRINGS[name](_made(folder / name)) as wiring:
                found[name] = _measure(wiring, plan, memory_events, lines, filled, recorded)
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "plan": asdict(plan) | {"memory_events": memory_events},
    }
    _tell("")
    report.show(report.write(arguments.out, facts, found, crowd, log))
    return 0


def _measure(
    wiring: Wiring, plan: Plan, memory_events: int, lines: Path, filled: Path, recorded: Path
) -> Found:
    """Everything of one wiring."""
    _tell(f"{wiring.name}: ingest")
    accepted = ingest.measure(wiring, lines, filled, plan.rounds, plan.seconds)
    _tell(f"{wiring.name}: processor")
    ingest.fill(wiring, "filled", lines)
    processed = processor.measure(wiring, "filled", plan.events, recorded, plan.rounds)
    _tell(f"{wiring.name}: disk")
    on_disk = disk.measure(wiring.store(processor.store_of(0)))
    _tell(f"{wiring.name}: the whole way")
    ways = [whole.measure(wiring, plan.way_seconds)]
    _tell(f"{wiring.name}: memory over {memory_events:,} events")
    return Found(
        ingest={str(same[0].size): median(same) for same in zip(*accepted, strict=True)},
        processor=median(processed),
        whole=median(ways),
        disk=on_disk,
        memory=memory.measure(wiring, lines, memory_events),
    )


def _crowd(wiring: Wiring, lines: Path, events: int) -> Disk:
    """Bytes on disk where nearly every event comes from a sidecar of its own."""
    _tell("100,000 sidecars")
    ingest.fill(wiring, "crowd", lines)
    processor.store(wiring, "crowd", events, "crowd")
    return disk.measure(wiring.store("crowd"))


def _lines(path: Path, fleet: Fleet, count: int) -> Path:
    """A file of events, the last of them made just now."""
    _tell(f"{count:,} events of {fleet.gateways:,} sidecars")
    with path.open("wb") as file:
        begin = time.time() - count / fleet.calls_per_second
        for line in Traffic(fleet, 1, begin).lines(count):
            file.write(line + b"\n")
    return path


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _room() -> Path:
    """Logs and stores lie on the disk that is measured, not in a file system in memory."""
    folder = report.REPORT.parent
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _tell(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""What a policy costs: to compile, to change by one grant, and to swap under load."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from extauthz.core.compile import compile_document, load_document
from extauthz.core.incremental import IncrementalPolicy
from tests.perf.policies import ALLOWED, document, grant, request
from tests.perf.stand import Stand

CONNECTIONS = 16
SECONDS = 6.0  # of load, with reloads and without
BETWEEN_SECONDS = 0.5  # from the end of a write to the next


@dataclass(frozen=True, slots=True)
class Policies:
    """Times of one policy of `grants` grants; medians, CPU time but for the latencies."""

    grants: int
    load_seconds: float
    compile_seconds: float
    change_seconds: float
    reloads: int
    p50_us_without_reload: float
    p50_us_with_reload: float
    p99_us_without_reload: float
    p99_us_with_reload: float

    def lines(self) -> list[str]:
        """For people."""
        ratio = self.p99_us_with_reload / self.p99_us_without_reload
        return [
            f"{self.grants:,} grants: parsed in {self.load_seconds:.2f} s, compiled in "
            f"{self.compile_seconds:.2f} s, one changed in {self.change_seconds * 1e3:.1f} ms",
            f"{self.reloads} reloads of all of them under {CONNECTIONS} connections: p99 "
            f"{self.p99_us_with_reload:,.0f} µs, {ratio:.2f} of the "
            f"{self.p99_us_without_reload:,.0f} without",
        ]


def measure(stand: Stand, grants: int, rounds: int) -> Policies:
    """Measure a policy of that size."""
    raw = json.dumps(document(grants)).encode()
    loads, compiles, changes = [], [], []
    for _ in range(max(rounds, 2)):
        seconds, parsed = _timed(lambda: load_document(raw))
        loads.append(seconds)
        seconds, _ = _timed(lambda parsed=parsed: compile_document(parsed))
        compiles.append(seconds)
    incremental = IncrementalPolicy.of(document(grants))
    for number in range(20):
        changed = grant(number, f"agent-{number:06}", "low")
        seconds, _ = _timed(lambda changed=changed: incremental.change(grants=[changed]))
        changes.append(seconds)
    without, with_reloads, reloads = _under_load(stand, grants, raw, rounds)
    return Policies(
        grants=grants,
        load_seconds=statistics.median(loads),
        compile_seconds=statistics.median(compiles),
        change_seconds=statistics.median(changes),
        reloads=reloads,
        p50_us_without_reload=without[0],
        p50_us_with_reload=with_reloads[0],
        p99_us_without_reload=without[1],
        p99_us_with_reload=with_reloads[1],
    )


def _under_load(
    stand: Stand, grants: int, raw: bytes, rounds: int
) -> tuple[tuple[float, float], tuple[float, float], int]:
    """(p50, p99) without and with reloads, in turn; and how many reloads there were."""
    other = json.loads(raw)
    other["grants"][0] = grant(0, "agent-000000", "low")
    documents = (json.dumps(other).encode(), raw)
    samples: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    with stand.apart():
        way = stand.ours("reloading", grants)
        for _ in range(max(rounds // 2, 1)):
            for reloading, taken in samples.items():
                stop = Event()
                writer = Thread(target=_write, args=(way.folder, documents, stop))
                if reloading:
                    writer.start()
                load = stand.load(
                    way,
                    request(ALLOWED),
                    connections=CONNECTIONS,
                    seconds=SECONDS,
                    want='"isError":false',
                )
                stop.set()
                if reloading:
                    writer.join()
                taken.append((load.p50_us, load.p99_us))
        reloads = stand.status(way)["reloads"]["success"] - 1

    def median(reloading: bool) -> tuple[float, float]:
        p50, p99 = zip(*samples[reloading], strict=True)
        return statistics.median(p50), statistics.median(p99)

    return median(False), median(True), reloads


def _write(folder: Path, documents: tuple[bytes, ...], stop: Event) -> None:
    while not stop.is_set():
        for raw in documents:
            new = folder / "new.json"
            new.write_bytes(raw)
            new.rename(folder / "policy.json")
            if stop.wait(BETWEEN_SECONDS):
                return


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.process_time()
    made = work()
    return time.process_time() - begin, made

"""The whole way: a real emitter, ingest, log, processor, store, and the api that shows it."""

import statistics
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.perf.pipeline.processes import KEY, child, per_million, run_child, usage
from tests.perf.pipeline.wirings import Stack, Wiring
from tests.tools.waiting import eventually

RATE = 1_000.0  # calls per second at which the delay is measured
WINDOW = 30_000  # events on their way at the maximal rate
_POLL_SECONDS = 0.2
_LATE_SECONDS = 20.0  # for the last to show
_WARM = 0.4  # the share of a run at the maximal rate that is not counted


@dataclass(frozen=True, slots=True)
class Whole:
    """The whole way.

    Args:
        p50_seconds, p99_seconds, max_seconds: from a decision until the api counts its event, which
            is asked five times a second; at `RATE` calls a second.
        calls, unseen: how many there were; those that never showed.
        sustained: events stored a second, while no more than `WINDOW` are on their way.
        cpu: per million events at that rate, by process; `emitter` includes the made-up traffic.
    """

    p50_seconds: float
    p99_seconds: float
    max_seconds: float
    calls: int
    unseen: int
    sustained: float
    cpu: Mapping[str, float]


def measure(wiring: Wiring, seconds: float) -> Whole:
    """Delay, then rate, on one stack."""
    with wiring.stack("whole") as stack:
        delays, unseen = _delays(wiring, stack, seconds)
        sustained, cpu = _sustained(wiring, stack, seconds)
    return Whole(
        p50_seconds=statistics.median(delays),
        p99_seconds=statistics.quantiles(delays, n=100)[98],
        max_seconds=max(delays),
        calls=len(delays) + unseen,
        unseen=unseen,
        sustained=sustained,
        cpu=cpu,
    )


def _delays(wiring: Wiring, stack: Stack, seconds: float) -> tuple[list[float], int]:
    """Delays of all calls, and how many were never seen.

    One emitter's calls are stored in their order, so the n-th is there once n are.
    """
    visible: list[tuple[float, int]] = []  # when the api told so many
    done = threading.Event()
    spool = wiring.folder / "spool-delays"
    words = (stack.ingest.events_url, KEY, spool, "--seconds", seconds, "--rate", RATE)
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(_watch, stack, visible, done)
        try:
            times: list[float] = run_child("source", *words)["times"]
            deadline = time.monotonic() + _LATE_SECONDS
            while _last(visible) < len(times) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        finally:
            done.set()
        watching.result()
    delays: list[float] = []
    for at, count in visible:
        delays += [at - offered for offered in times[len(delays) : count]]
    return delays, len(times) - len(delays)


def _watch(stack: Stack, visible: list[tuple[float, int]], done: threading.Event) -> None:
    while not done.wait(_POLL_SECONDS):
        total: int = stack.api.ask("/api/stats")["events_total"]
        if total > _last(visible):
            visible.append((time.time(), total))


def _last(visible: list[tuple[float, int]]) -> int:
    return visible[-1][1] if visible else 0


def _sustained(wiring: Wiring, stack: Stack, seconds: float) -> tuple[float, dict[str, float]]:
    """Events stored a second, and CPU by process."""
    spool = wiring.folder / "spool-most"
    words = (stack.ingest.events_url, KEY, spool, "--seconds", seconds, "--window", WINDOW)
    with child("source", *words) as source:
        assert source.stdin
        charged = {"emitter": (source.pid,), **stack.charged}
        first = stack.stored()
        eventually(lambda: stack.stored() > first, "events are stored")
        begin = time.monotonic()
        counted: tuple[float, int, dict[str, float]] | None = None
        while time.monotonic() - begin < seconds - 1:
            stored = stack.stored()
            print(stored - first, file=source.stdin, flush=True)
            if counted is None and time.monotonic() - begin > _WARM * seconds:
                counted = time.monotonic(), stored, _used(charged)
            time.sleep(_POLL_SECONDS)
        assert counted
        at, before, used = counted
        spent, events, now = time.monotonic() - at, stack.stored() - before, _used(charged)
        source.communicate()
    cpu = {name: per_million(now[name] - used[name], events) for name in used}
    return events / spent, cpu


def _used(charged: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    return {name: usage(pids).cpu_seconds for name, pids in charged.items()}

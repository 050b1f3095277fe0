"""What each process holds while many events go through it."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.perf.pipeline.ingest import CONNECTIONS
from tests.perf.pipeline.processes import KEY, child, usage
from tests.perf.pipeline.wirings import Stack, Wiring
from tests.tools.waiting import eventually

LONGEST_SECONDS = 24 * 3600.0
LOOK_SECONDS = 0.5
SIZE = 1000  # events in a request


@dataclass(frozen=True, slots=True)
class Memory:
    """MB resident by process when a tenth of `events` was stored, and when all were."""

    events: int
    early_mb: Mapping[str, float]
    late_mb: Mapping[str, float]


def measure(
    wiring: Wiring, lines: Path, events: int, tell: Callable[[str], None] = lambda _: None
) -> Memory:
    """Send the same events over and over under new ids, through the whole stack.

    Args:
        tell: hears of each tenth.
    """
    held: list[Mapping[str, float]] = []
    # The log would grow beyond the disk otherwise; what was processed may go at once.
    with wiring.stack("memory", EVENT_LOG_RETENTION_HOURS="0") as stack:
        words = (stack.ingest.events_url, KEY, lines, "--fresh", events, "--size", SIZE)
        with child("load", *words, "--connections", CONNECTIONS[SIZE]) as load:
            # Its pipe must be read, and it prints only at the end.
            reading = threading.Thread(target=load.communicate)
            reading.start()
            patience = LONGEST_SECONDS, LOOK_SECONDS
            for tenth in range(1, 11):
                due = events * tenth // 10
                eventually(lambda due=due: stack.stored() >= due, "all is stored", *patience)
                held.append(_held(stack))
                found = ", ".join(f"{name} {mb:.0f} MB" for name, mb in held[-1].items())
                tell(f"{wiring.name}: {due:,} events: {found}")
            reading.join()
    return Memory(events, held[0], held[-1])


def _held(stack: Stack) -> dict[str, float]:
    return {name: usage(pids).rss_mb for name, pids in stack.charged.items()}

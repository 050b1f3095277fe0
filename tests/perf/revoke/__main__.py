"""`python -m tests.perf.revoke`: how soon a revocation counts everywhere.

A real API server, the controller, and sidecars as processes: from the API server's answer to the
write until the last sidecar denies.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.perf.pipeline.processes import usage
from tests.perf.revoke import report
from tests.perf.revoke.envoys import calling
from tests.perf.revoke.failover import measure as measure_failover
from tests.perf.revoke.fleet import Fleet, running_fleet
from tests.perf.revoke.report import Idle, Revocations
from tests.perf.revoke.world import World, api_calls, running_world
from tests.tools.controller_process import ControllerProcess
from tests.tools.waiting import eventually

SIDECARS = (1, 10, 100)
ENVOYS = 2


def main() -> int:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf.revoke", description=__doc__)
    parser.add_argument("--revocations", type=int, default=200, help="for each number of sidecars")
    parser.add_argument("--sidecars", type=int, nargs="*", default=SIDECARS, help="how many")
    parser.add_argument("--failovers", type=int, default=3, help="of each kind")
    parser.add_argument("--idle-seconds", type=float, default=120.0, help="without a change")
    parser.add_argument("--out", type=Path, default=report.REPORT, help="the report's file")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every process is ended
    rows: dict[str, Revocations] = {}
    idle = None
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="revoke-", dir=given.out.parent) as scratch,
        running_world(Path(scratch).resolve()) as world,
    ):
        with world.controller("one") as controller:
            eventually(controller.leads, "it leads")
            for count in given.sidecars:
                with _sidecars(world, controller, count) as fleet:
                    rows[f"{count} sidecars"] = _revoke(world, controller, fleet, given.revocations)
                _tell(rows)
            address = f"127.0.0.1:{controller.port}"
            with calling([world.pods.options(address) for _ in range(ENVOYS)]) as fleet:
                name = f"{ENVOYS} with Envoy and calls"
                rows[name] = _revoke(world, controller, fleet, given.revocations)
            _tell(rows)
        failovers = measure_failover(world, given.failovers)
        if given.idle_seconds:
            idle = _idle(world, given.idle_seconds)
    found = report.Found(report.facts(), rows, idle, failovers)
    report.write(given.out, found)
    report.show(found)
    return 0


def _tell(rows: dict[str, Revocations]) -> None:
    name, row = list(rows.items())[-1]
    print(f"{name}: p50 {row.p50:.1f}, p99 {row.p99:.1f} ms", file=sys.stderr, flush=True)


@contextmanager
def _sidecars(world: World, controller: ControllerProcess, count: int) -> Iterator[Fleet]:
    address = f"127.0.0.1:{controller.port}"
    with running_fleet([world.pods.options(address) for _ in range(count)]) as fleet:
        yield fleet


def _revoke(
    world: World, controller: ControllerProcess, fleet: Fleet, revocations: int
) -> Revocations:
    """Take one grant away and give it back, over and over."""
    fleet.until("allow")
    before, sidecars_before = usage([controller.pid]), fleet.usage()
    calls_before, milliseconds = api_calls(controller), []
    for _ in range(revocations):
        answered = world.writer.grant(disabled=True)
        milliseconds.append(max(fleet.until("deny") - answered, 0) / 1e6)
        world.writer.grant(disabled=False)
        fleet.until("allow")
    after, sidecars_after = usage([controller.pid]), fleet.usage()
    changes = 2 * revocations
    return Revocations(
        **report.spread(milliseconds),
        controller_ms=1000 * (after.cpu_seconds - before.cpu_seconds) / changes,
        controller_mb=after.rss_mb,
        sidecars_ms=1000 * (sidecars_after.cpu_seconds - sidecars_before.cpu_seconds) / changes,
        api_calls=(api_calls(controller) - calls_before) / changes,
    )


def _idle(world: World, seconds: float) -> Idle:
    """Two replicas and ten sidecars, to whom nothing happens."""
    with world.controller("one") as first, world.controller("two") as second:
        both = (first, second)
        eventually(lambda: any(each.leads() for each in both), "one of them leads")
        leader = first if first.leads() else second
        with _sidecars(world, leader, 10) as fleet:
            fleet.until("allow")
            time.sleep(seconds / 4)  # statuses of what has just begun are written
            before = [api_calls(each) for each in both]
            cpu = usage([leader.pid]).cpu_seconds
            time.sleep(seconds)
            made = [api_calls(each) - b for each, b in zip(both, before, strict=True)]
            spent = usage([leader.pid]).cpu_seconds - cpu
    if leader is second:
        made.reverse()
    per_minute = [60 * each / seconds for each in made]
    return Idle(per_minute[0], per_minute[1], 1000 * 60 * spent / seconds)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.perf.reconcile`: what a hundred thousand grants cost the controller.

First spread over a thousand servers, then all of them of one.
"""

import argparse
import json
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from extauthz.core.governance import KINDS
from tests.perf.pipeline.processes import usage
from tests.perf.reconcile import report
from tests.perf.reconcile.objects import Etcd, copies
from tests.perf.reconcile.report import AllAnew, OneChange, Start
from tests.perf.revoke.fleet import Fleet, running_fleet
from tests.perf.revoke.report import facts, spread
from tests.perf.revoke.sidecar import AGENT
from tests.perf.revoke.world import NAMESPACE, SERVER, WAIT_SECONDS, World, Writer, running_world
from tests.tools.controller_process import ControllerProcess
from tests.tools.waiting import eventually

OTHER: Final = "other"
QUIET_SECONDS: Final = 5.0  # without a call, and a start is over
_CALLS: Final = re.compile(r'^controller_api_server_calls_total\{.*verb="(\w+)"\} (\S+)$', re.M)
_PEAK: Final = re.compile(r"^VmHWM:\s+(\d+) kB$", re.M)
_RECONCILE: Final = re.compile(r"^controller_reconcile_seconds_(sum|count) (\S+)$", re.M)


def main() -> int:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf.reconcile", description=__doc__)
    parser.add_argument("--servers", type=int, default=1_000)
    parser.add_argument("--grants", type=int, default=100_000, help="of all servers together")
    parser.add_argument("--changes", type=int, default=200, help="of one grant")
    parser.add_argument("--out", type=Path, default=report.REPORT, help="the report's file")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every process is ended
    given.out.parent.mkdir(parents=True, exist_ok=True)
    each = range(given.grants // given.servers)
    many = {f"server-{number:04}": each for number in range(given.servers)}
    with _filled(given.out.parent, many) as world:
        first, again = _start(world), _start(world)
        _tell("started twice")
    one = {OTHER: range(1), SERVER: range(1, given.grants)}
    with (
        _filled(given.out.parent, one) as world,
        _controller(world) as controller,
        _sidecars(world, controller) as fleets,
    ):
        _tell("sidecars follow")
        change = _change_one(world, controller, fleets[SERVER], given.changes)
        _tell("one grant changed")
        anew = _change_all(world, fleets)
    found = report.Found(facts(), given.servers, given.grants, first, again, change, anew)
    report.write(given.out, found)
    report.show(found)
    return 0


@contextmanager
def _filled(folder: Path, grants: Mapping[str, range]) -> Iterator[World]:
    """A cluster with grants for these agents of each server."""
    with (
        tempfile.TemporaryDirectory(prefix="reconcile-", dir=folder) as scratch,
        running_world(Path(scratch).resolve(), grants=1) as world,
    ):
        with _controller(world) as controller:  # writes the statuses that are copied
            options = world.pods.options(f"127.0.0.1:{controller.port}")
            with running_fleet([options]):
                eventually(lambda: _is_enforced(world), "all is enforced")
            controller.end()
        etcd = Etcd(world.cluster)
        server, grant = etcd.read("MCPServer", SERVER), etcd.read("MCPAccessGrant", AGENT)
        world.cluster.kill("kube-apiserver")
        for name, numbers in grants.items():
            etcd.write(copies(server, grant, name, numbers))
        world.cluster.start()
        world.writer = Writer(world.cluster.kubeconfig)
        followed = world.writer.is_followed
        eventually(lambda: all(map(followed, KINDS)), "they can be followed", WAIT_SECONDS)
        _tell("the objects are there")
        yield world


@contextmanager
def _controller(world: World) -> Iterator[ControllerProcess]:
    """One that leads."""
    with world.controller("one") as controller:
        eventually(controller.leads, "it leads", WAIT_SECONDS)
        yield controller


def _is_enforced(world: World) -> bool:
    place = {"name": AGENT, "namespace": NAMESPACE}
    found = world.served.get({"kind": "MCPAccessGrant", "metadata": place})
    return "Acknowledged" in json.dumps(found)


def _tell(what: str) -> None:
    print(f"{time.strftime('%X')} {what}", file=sys.stderr, flush=True)


def _start(world: World) -> Start:
    """Start one, until it has nothing more to do."""
    began = time.monotonic()
    with world.controller("one") as controller:
        ready = time.monotonic() - began
        eventually(controller.leads, "it leads", WAIT_SECONDS)
        settled = _settled(controller) - began
        used = usage([controller.pid])
        peak = int(_PEAK.findall(Path(f"/proc/{controller.pid}/status").read_text())[0]) / 1024
        calls: Counter[str] = Counter()
        for verb, count in _CALLS.findall(controller.metrics()):
            calls[verb] += int(float(count))
        controller.end()  # the next one need not wait for its lease
    return Start(ready, settled, used.cpu_seconds, used.rss_mb, peak, dict(calls))


def _settled(controller: ControllerProcess) -> float:
    """Wait until it asks for no more than the lease; when that began."""
    since, last = time.monotonic(), -1.0
    while time.monotonic() - since < QUIET_SECONDS:
        time.sleep(0.2)
        made = sum(
            float(n)
            for verb, n in _CALLS.findall(controller.metrics())
            if verb in {"patch", "post", "get"}
        )
        if made != last:
            since, last = time.monotonic(), made
    return since


@contextmanager
def _sidecars(world: World, controller: ControllerProcess) -> Iterator[dict[str, Fleet]]:
    """One of each server."""
    address = f"127.0.0.1:{controller.port}"
    with ExitStack() as opened:
        fleets = {}
        for name, pods in ((SERVER, world.pods), (OTHER, world.pods_of(OTHER))):
            fleets[name] = opened.enter_context(running_fleet([pods.options(address)]))
            fleets[name].until("allow")
        yield fleets


def _change_one(
    world: World, controller: ControllerProcess, fleet: Fleet, changes: int
) -> OneChange:
    """Take one grant away and give it back, over and over."""
    before, sidecar_before = usage([controller.pid]).cpu_seconds, fleet.usage().cpu_seconds
    seconds_before, count_before = _reconciled(controller)
    milliseconds = []
    for _ in range(changes // 2):
        answered = world.writer.grant(disabled=True)
        milliseconds.append(max(fleet.until("deny") - answered, 0) / 1e6)
        world.writer.grant(disabled=False)
        fleet.until("allow")
    seconds, count = _reconciled(controller)
    spent = usage([controller.pid]).cpu_seconds - before
    sidecar = fleet.usage().cpu_seconds - sidecar_before
    return OneChange(
        spread(milliseconds),
        reconcile_ms=1000 * (seconds - seconds_before) / (count - count_before),
        controller_ms=1000 * spent / changes,
        sidecar_ms=1000 * sidecar / changes,
    )


def _change_all(world: World, fleets: Mapping[str, Fleet]) -> AllAnew:
    """Give a server a team: its grants become the team's; revoke elsewhere meanwhile."""
    grant, milliseconds = f"{OTHER}-{AGENT}", []
    began = world.writer.patch("MCPServer", SERVER, {"teamID": "team"})
    while fleets[SERVER].effect != "deny":
        answered = world.writer.patch("MCPAccessGrant", grant, {"disabled": True})
        milliseconds.append(max(fleets[OTHER].until("deny") - answered, 0) / 1e6)
        world.writer.patch("MCPAccessGrant", grant, {"disabled": False})
        fleets[OTHER].until("allow")
    seconds = (fleets[SERVER].until("deny") - began) / 1e9
    return AllAnew(seconds, spread(milliseconds), len(milliseconds))


def _reconciled(controller: ControllerProcess) -> tuple[float, float]:
    """Seconds that changes took so far, and how many there were."""
    found = {name: float(value) for name, value in _RECONCILE.findall(controller.metrics())}
    return found["sum"], found["count"]


if __name__ == "__main__":
    sys.exit(main())

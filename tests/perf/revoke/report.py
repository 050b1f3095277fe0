"""The figures of a run, as JSON and as tables."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.tools.kube_binaries import ROOT

REPORT: Final = ROOT / "build/bench/revoke.json"
AIM_MS: Final = 250.0  # p99, with a hundred sidecars
AIM_CALLS: Final = 10.0  # of the API server in an idle minute
_PACKAGES: Final = ("aiohttp", "grpcio", "uvloop")


@dataclass(frozen=True, slots=True)
class Revocations:
    """Milliseconds until the last sidecar denies, and what each change costs.

    Args:
        controller_ms, sidecars_ms: CPU for a change, the latter of all sidecars together.
        controller_mb: resident, afterwards.
        api_calls: of the controller for a change.
    """

    p50: float
    p95: float
    p99: float
    most: float
    controller_ms: float
    controller_mb: float
    sidecars_ms: float
    api_calls: float


@dataclass(frozen=True, slots=True)
class Idle:
    """A minute without a change: calls of the API server, and the leader's CPU."""

    leader_calls: float
    standby_calls: float
    leader_cpu_ms: float


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that was measured. Args: failovers: seconds, by how the leader ended."""

    facts: dict[str, Any]
    revocations: dict[str, Revocations]
    idle: Idle | None
    failovers: dict[str, list[float]]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Percentiles by the nearest rank."""
    ordered = sorted(values)
    ranks = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "most": 1.0}
    return {name: ordered[round(rank * len(ordered)) - 1] for name, rank in ranks.items()}


def facts() -> dict[str, Any]:
    """Machine, versions and date."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def write(path: Path, found: Found) -> None:
    path.write_text(json.dumps(asdict(found), indent=1) + "\n")


def show(found: Found) -> None:
    """On the terminal."""
    console = Console(width=140)
    heads = ("p50 ms", "p95", "p99", "most", "controller CPU ms", "MB", "sidecars CPU ms", "calls")
    table = Table("", *heads, title="from the answer to the write until the last denies", box=None)
    for name, row in found.revocations.items():
        table.add_row(name, *(f"{each:,.1f}" for each in asdict(row).values()))
    console.print(table)
    if found.idle:
        idle = found.idle
        console.print(
            f"idle: {idle.leader_calls:.1f} calls a minute of the leader (aim: {AIM_CALLS:.0f}), "
            f"{idle.standby_calls:.1f} of the standby, {idle.leader_cpu_ms:.0f} ms CPU"
        )
    for way, seconds in found.failovers.items():
        told = ", ".join(f"{each:.2f}" for each in seconds)
        console.print(f"failover by {way}: {told} s until a revocation counts")

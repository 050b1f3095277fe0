"""The figures of a run, as JSON and as tables."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.tools.kube_binaries import ROOT

REPORT: Final = ROOT / "build/bench/reconcile.json"
AIM_CONTROLLER_MS, AIM_SIDECAR_MS = 50.0, 5.0  # for one changed grant among 100,000


@dataclass(frozen=True, slots=True)
class Start:
    """A controller that starts.

    Args:
        ready_seconds: until it knows all objects.
        settled_seconds: until it asks nothing more.
        cpu_seconds, mb: of the controller, by then; peak_mb: at most.
        calls: of the API server, by verb.
    """

    ready_seconds: float
    settled_seconds: float
    cpu_seconds: float
    mb: float
    peak_mb: float
    calls: dict[str, int]


@dataclass(frozen=True, slots=True)
class OneChange:
    """One changed grant of a server with many.

    Args:
        until_denied_ms: p50, p95, p99 and most, from the API server's answer on.
        reconcile_ms: from the observed change to its update for the sidecars.
        controller_ms, sidecar_ms: CPU of a change, with all that follows from it.
    """

    until_denied_ms: dict[str, float]
    reconcile_ms: float
    controller_ms: float
    sidecar_ms: float


@dataclass(frozen=True, slots=True)
class AllAnew:
    """The team of a server with many grants changes.

    Args:
        seconds: until its sidecar decides by it.
        elsewhere_ms: how long revocations at another server took meanwhile.
        revocations: how many of them there were.
    """

    seconds: float
    elsewhere_ms: dict[str, float]
    revocations: int


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that was measured."""

    facts: dict[str, Any]
    servers: int
    grants: int
    first: Start
    again: Start
    change: OneChange
    anew: AllAnew


def write(path: Path, found: Found) -> None:
    path.write_text(json.dumps(asdict(found), indent=1) + "\n")


def show(found: Found) -> None:
    """On the terminal."""
    console = Console(width=140)
    table = Table(
        *("", "ready s", "settled s", "CPU s", "MB", "peak MB", "calls"),
        title=f"{found.servers:,} servers, {found.grants:,} grants",
        box=None,
    )
    for name, start in (("first start", found.first), ("next start", found.again)):
        figures = (start.ready_seconds, start.settled_seconds, start.cpu_seconds)
        sizes = (f"{start.mb:,.0f}", f"{start.peak_mb:,.0f}")
        calls = ", ".join(f"{verb} {count:,}" for verb, count in sorted(start.calls.items()))
        table.add_row(name, *(f"{each:.1f}" for each in figures), *sizes, calls)
    console.print(table)
    change, anew = found.change, found.anew
    console.print(
        f"one changed grant of {found.grants:,} of one server: {_spread(change.until_denied_ms)} "
        f"until denied; {change.reconcile_ms:.1f} ms to reconcile, {change.controller_ms:.1f} ms "
        f"CPU of the controller in all (aim: {AIM_CONTROLLER_MS:.0f}), {change.sidecar_ms:.1f} of "
        f"the sidecar (aim: {AIM_SIDECAR_MS:.0f})"
    )
    console.print(
        f"its team changed: {anew.seconds:.1f} s until its sidecar decides by it; "
        f"{anew.revocations} revocations elsewhere meanwhile: {_spread(anew.elsewhere_ms)}"
    )


def _spread(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in found.items()) + " ms"

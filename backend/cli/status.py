"""`sentinel status`: what runs, how it is, and what is wrong with the access files."""

import asyncio
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import click
from rich.table import Table

from backend.cli import deployed
from backend.cli.console import FAILED, Failure, cell, print_unfolded, stdout
from backend.cli.operated import Place, UpAt, on_any
from backend.cli.options import output_option, print_told
from backend.cli.running import get_json, read_key
from backend.cli.stack import ADMIN_SOCKET, http_probe
from backend.cli.state import Component, Running
from extauthz.core.manifests import Fault

NO_POLICY = "no policy: every call is denied"
# `not ready`: its process runs and does not serve.
READY, DEGRADED, NOT_READY, DOWN = "ready", "degraded", "not ready", "down"
STYLES = {READY: "green", DEGRADED: "yellow", NOT_READY: "yellow", DOWN: "red"}


@dataclass(frozen=True, slots=True)
class Health:
    """One component as it is now; `detail` is for people."""

    name: str
    pid: int
    state: str
    detail: str = ""
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """All that `status` tells.

    Args:
        policy: the decision point's own status; empty where it does not answer.
        told: the components as the api tells of them; empty where it does not answer.
    """

    running: Running
    components: tuple[Health, ...]
    policy: dict[str, Any]
    told: tuple[deployed.Component, ...] = ()

    @property
    def is_healthy(self) -> bool:
        return all(component.state == READY for component in self.components)

    @property
    def faults(self) -> list[dict[str, Any]]:
        """What is wrong with access files: file, line, field, problem, mend."""
        found: list[dict[str, Any]] = self.policy.get("faults") or []
        return found


@click.command()
@output_option("components")
@on_any
def status(*, output: str, at: Place) -> None:
    """Show what runs: the running `sentinel up`, or the components of a cluster or an api.

    Of `sentinel up`: addresses, processes, faults of access files. Of a cluster: how many of each
    component serve, their version, what waits for them, and how old the policies are.

    Exit code 0: all healthy, 1: degraded, 3: not running.
    """
    if isinstance(at, UpAt):
        report = asyncio.run(inspect(at.running, at.root))
        names = (component.name for component in report.components)
        if not print_told(output, as_plain(report), names):
            _print(report)
        is_healthy = report.is_healthy
    else:
        is_healthy = deployed.show(at, output)
    if not is_healthy:
        raise SystemExit(FAILED)


async def inspect(running: Running, root: Path) -> Report:
    """Ask every component how it is."""
    async with aiohttp.ClientSession() as session:
        try:
            policy = await get_json(session, f"{running.operations}/config/status")
        except Failure:
            policy = {}
        told = await _told(session, running)
        api, ingest = running.endpoints.api, running.endpoints.ingest
        healthy = {
            "envoy": await _envoy_is_ready(root),
            "upstream": await http_probe(session, running.upstream, any_status=True)(),
            "backend": await http_probe(session, f"{api}/ready")()
            and await http_probe(session, f"{ingest}/ready")(),
            "decision-point": await http_probe(session, f"{running.operations}/ready")(),
            "ui": await http_probe(session, f"{running.endpoints.ui}/ready")(),
        }
    components = list(running.components)
    if not any(component.name == "upstream" for component in components):
        components.append(Component("upstream"))  # the user's own, with no process of ours
    found = (_health(each, healthy[each.name], policy, running) for each in components)
    return Report(running, tuple(found), policy, told)


async def _told(session: aiohttp.ClientSession, running: Running) -> tuple[deployed.Component, ...]:
    """What the api tells of the components that it can reach."""
    try:
        key = read_key(Path(running.admin_key_file))
        url = f"{running.endpoints.api}/api/runtime/components"
        components = (await get_json(session, url, key))["components"]
    except Failure:
        return ()
    return tuple(each for each in components if each["status"] not in deployed.ABSENT)


async def _envoy_is_ready(root: Path) -> bool:
    os.chdir(root)  # a socket's path may have 107 bytes; a relative one is short
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(ADMIN_SOCKET)) as session:
        return await http_probe(session, "http://envoy/ready")()


def as_plain(report: Report) -> dict[str, Any]:
    """The report as JSON types."""
    running = report.running
    return {
        "state": "healthy" if report.is_healthy else "degraded",
        "pid": running.pid,
        "started_at": running.started_at,
        "server": running.server,
        "endpoints": asdict(running.endpoints),
        "access_dir": running.access_dir,
        "admin_key_file": running.admin_key_file,
        "components": [asdict(component) for component in report.components],
        "runtime": list(report.told),
        "faults": report.faults,
        "decision_point": report.policy,
    }


def _health(
    component: Component, is_ready: bool, policy: dict[str, Any], running: Running
) -> Health:
    state = READY if is_ready else NOT_READY if component.pid else DOWN
    detail = ""
    if component.name == "decision-point" and policy:
        faults = policy.get("faults") or []
        if faults or not is_ready:
            state = DEGRADED
        detail = _policy_detail(policy)
    elif component.name == "upstream":
        detail = running.upstream
    if component.restarts:
        detail = f"{detail}; restarts: {component.restarts}".removeprefix("; ")
    return Health(component.name, component.pid, state, detail, component.restarts)


def _policy_detail(status: dict[str, Any]) -> str:
    policy = status.get("policy") or {}
    revision = str(policy.get("revision") or "")
    parts = [f"policy {revision[:19]} ({policy.get('mode')})" if revision else NO_POLICY]
    if events := status.get("events"):
        dropped = sum((events.get("dropped") or {}).values())
        parts += [f"events: {events.get('sent', 0)} sent"]
        parts += [f"{events[name]} {name}" for name in ("pending", "spooled") if events.get(name)]
        parts += [f"{dropped} dropped"] if dropped else []
        parts += ["ingest is away"] if events.get("away") else []
    return ", ".join(parts)


def _print(report: Report) -> None:
    console, running = stdout(), report.running
    addresses = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    addresses.add_column(style="bold", no_wrap=True)
    addresses.add_column(no_wrap=True)
    for name, value in {
        "server": running.server,
        "governed MCP": running.endpoints.mcp,
        "api": running.endpoints.api,
        "ingest": running.endpoints.ingest,
        "access directory": running.access_dir,
        "admin key file": running.admin_key_file,
    }.items():
        addresses.add_row(name, cell(value))
    print_unfolded(addresses)
    console.print()
    components = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("PROCESS", "PID", "STATE"):
        components.add_column(name, no_wrap=True)
    components.add_column("DETAIL", overflow="fold")
    for each in report.components:
        state = cell(each.state, STYLES[each.state])
        components.add_row(cell(each.name), cell(each.pid or "-"), state, cell(each.detail))
    console.print(components)
    if report.told:
        console.print()
        console.print(deployed.table_of(report.told))
    for fault in report.faults:
        console.print(cell(f"fault: {_fault(fault, running.access_dir)}", "red"), soft_wrap=True)
    if report.faults and (report.policy.get("policy") or {}).get("revision"):
        console.print("The last good policy stays until that is mended.")


def _fault(fault: dict[str, Any], folder: str) -> str:
    """One line, the file such that an editor finds it."""
    said = (str(fault.get(name) or "") for name in ("field", "problem", "mend"))
    return str(Fault(str(Path(folder) / str(fault.get("file", ""))), fault.get("line") or 0, *said))

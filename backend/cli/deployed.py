"""`sentinel status` elsewhere: the components as their api, or their cluster, tells of them."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import aiohttp
import msgspec
from rich.table import Table

from backend.cli.console import Failure, cell, stdout
from backend.cli.operated import ClusterAt
from backend.cli.options import print_told
from backend.cli.running import Api, get_json
from backend.cli.tables import aligned
from backend.ports.cluster import Status

Component = dict[str, Any]  # as the api sends it

# What is not there, or cannot be reached from the api, is no fault of what is.
STYLES = {
    "Ready": "green",
    "Degraded": "yellow",
    "NotReady": "red",
    "NotDeployed": "",
    "Unknown": "",
}
FAULTS = frozenset({"Degraded", "NotReady"})
ABSENT = frozenset({"NotDeployed", "Unknown"})


def show(at: Api | ClusterAt, output: str) -> bool:
    """Print the components; whether none of them has a fault.

    Raises:
        Failure: nobody answers there, or who does refuses.
    """
    told = asyncio.run(_ask(at) if isinstance(at, Api) else _look(at))
    components: list[Component] = told["components"]
    if not print_told(output, told, (each["key"] for each in components)):
        stdout().print(table_of(components))
    return not any(each["status"] in FAULTS for each in components)


def table_of(components: Iterable[Component]) -> Table:
    """In mcp-runtime's columns."""
    table = aligned("COMPONENT", "NAMESPACE", "RESOURCE", "STATUS", "DETAILS")
    for each in components:
        resource = "/".join(filter(None, (each["kind"], each["resource"])))
        table.add_row(
            cell(each["display"]),
            cell(each["namespace"] or "-"),
            cell(resource or "-"),
            cell(each["status"], STYLES.get(each["status"], "")),
            cell("; ".join(_details(each))),
        )
    return table


def _details(component: Component) -> Iterator[str]:
    """How many serve, what is wrong, and what else is known."""
    yield from filter(None, (component["ready"], component["message"]))
    if component["version"]:
        yield f"version {component['version']}"
    if component["restarts"]:
        yield f"{component['restarts']} restarts"
    if component["lag"]:
        yield f"{component['lag']} events wait"
    if (age := component.get("policy_age_seconds")) is not None:
        yield f"policies confirmed {age} s ago"


async def _look(at: ClusterAt) -> dict[str, Any]:
    async with at.opened() as workloads:
        states = await workloads.components()
    if states and all(each.status is Status.UNKNOWN for each in states):
        raise Failure(states[0].message)
    return {"components": [msgspec.to_builtins(each) for each in states]}


async def _ask(api: Api) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session:
        told: dict[str, Any] = await get_json(session, api.at("/api/runtime/components"), api.key)
        return told

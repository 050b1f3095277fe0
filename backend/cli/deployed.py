"""`sentinel status --api URL`: the components as their api tells of them."""

import asyncio
from collections.abc import Iterable
from typing import Any

import aiohttp
from rich.table import Table

from backend.cli.console import cell, stdout
from backend.cli.options import print_told
from backend.cli.running import Api, get_json
from backend.cli.tables import aligned

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


def show(api: Api, output: str) -> bool:
    """Print the components; whether none of them has a fault.

    Raises:
        Failure: the api does not answer, or refuses.
    """
    told = asyncio.run(_ask(api))
    components: list[Component] = told["components"]
    if not print_told(output, told, (each["key"] for each in components)):
        stdout().print(table_of(components))
    return not any(each["status"] in FAULTS for each in components)


def table_of(components: Iterable[Component]) -> Table:
    """In mcp-runtime's columns."""
    table = aligned("COMPONENT", "NAMESPACE", "RESOURCE", "STATUS", "DETAILS")
    for each in components:
        resource = "/".join(filter(None, (each["kind"], each["resource"])))
        waiting = f"{each['lag']} events wait" if each["lag"] else ""
        table.add_row(
            cell(each["display"]),
            cell(each["namespace"] or "-"),
            cell(resource or "-"),
            cell(each["status"], STYLES.get(each["status"], "")),
            cell("; ".join(filter(None, (each["ready"], each["message"], waiting)))),
        )
    return table


async def _ask(api: Api) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session:
        told: dict[str, Any] = await get_json(session, api.at("/api/runtime/components"), api.key)
        return told

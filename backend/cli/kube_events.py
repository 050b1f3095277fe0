"""`sentinel kube-events`: what Kubernetes tells of the components' pods."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict

import click

from backend.cli.console import cell, stdout
from backend.cli.operated import ClusterAt, on_cluster
from backend.cli.options import output_option, print_told
from backend.cli.tables import aligned
from backend.ports.workloads import Happening

STYLES = {"Warning": "yellow"}


@click.command("kube-events")
@output_option("what they are about")
@on_cluster
def kube_events(*, output: str, at: ClusterAt) -> None:
    """Show the Events of Kubernetes in Sentinel's namespace, the newest last.

    They tell of pods, not of calls: these are in `sentinel events`.
    """
    found = asyncio.run(_found(at))
    told = {"events": [asdict(each) for each in found]}
    if print_told(output, told, (each.about for each in found)):
        return
    table = aligned("TIME", "TYPE", "REASON", "OBJECT", "TIMES", "MESSAGE", numbers={"TIMES"})
    for each in found:
        style = STYLES.get(each.kind, "")
        row = (each.at, each.kind, each.reason, each.about, each.count, each.message)
        table.add_row(*(cell(value, style) for value in row))
    stdout().print(table)


async def _found(at: ClusterAt) -> Sequence[Happening]:
    async with at.opened() as workloads:
        return await workloads.happenings()

"""`sentinel restart`: starts a component again, and waits until it serves."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
import click

from backend.cli.console import FAILED, Failure, cell, stderr, stdout
from backend.cli.deployed import ABSENT, STYLES, Component
from backend.cli.operated import ClusterAt, Place, UpAt, on_any
from backend.cli.options import output_option, print_told
from backend.cli.restart_cluster import restart_on_cluster
from backend.cli.running import Api, Unreachable, get_json
from backend.cli.tables import aligned

WAIT_SECONDS: Final = 120.0  # for the drains and the starts of all of them
POLL_SECONDS: Final = 0.3
SERVING: Final = frozenset({"Ready", "Degraded"})


@click.command()
@click.argument("component", default="")
@click.option("--all", "every", is_flag=True, help="All of Sentinel's own, one after the other.")
@click.option("--yes", is_flag=True, help="Do not ask before --all.")
@click.option("--wait/--no-wait", default=True, help="Wait until they serve again (the default).")
@output_option("components")
@on_any
def restart(
    *,
    component: str,
    every: bool,
    yes: bool,
    wait: bool,
    output: str,
    at: Place,
) -> None:
    """Start COMPONENT again, such as ingest, processor, api or sidecar; or --all.

    It finishes what it has in hand first; on a cluster its pods are replaced one by one. Exit
    code 1 where one does not serve in time.
    """
    if every == bool(component):
        raise click.UsageError("name one component, or all of them with --all")
    if every and not yes and sys.stdin.isatty():  # scripts, which cannot answer, mean it
        click.confirm("restart all components?", abort=True, err=True)
    if isinstance(at, ClusterAt):
        told = asyncio.run(restart_on_cluster(at, component, wait=wait))
    else:
        api = at.api if isinstance(at, UpAt) else at
        told = asyncio.run(_restart(api, component, wait=wait))
    if not print_told(output, {"components": told}, (each["key"] for each in told)):
        _show(told)
    if wait and not all(each["status"] in SERVING for each in told):
        raise SystemExit(FAILED)


async def _restart(api: Api, component: str, *, wait: bool) -> Sequence[Component]:
    async with aiohttp.ClientSession() as session:
        before = await _components(session, api)
        body = {"component": component} if component else {"all": True}
        url = api.at("/api/runtime/actions/restart")
        await get_json(session, url, api.key, method="POST", body=body)
        running = (key for key, each in before.items() if each["status"] not in ABSENT)
        keys = [component] if component else list(running)
        if not wait:
            return [before[key] for key in keys]
        with stderr().status(f"restarting {', '.join(keys)} …"):
            return await _served_again(session, api, keys, before)


async def _served_again(
    session: aiohttp.ClientSession,
    api: Api,
    keys: Sequence[str],
    before: Mapping[str, Component],
) -> Sequence[Component]:
    """As they are once all were restarted and serve.

    Raises:
        Failure: one of them does not.
    """
    found: Mapping[str, Component] = before
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not all(_is_done(found[key], before[key]) for key in keys):
                await asyncio.sleep(POLL_SECONDS)
                try:
                    found = await _components(session, api)
                except Unreachable:  # it is the api that is restarted
                    continue
    except TimeoutError:
        late = ", ".join(key for key in keys if not _is_done(found[key], before[key]))
        seconds = f"{WAIT_SECONDS:.0f}"
        raise Failure(f"{late} did not serve within {seconds} s; see `sentinel status`") from None
    return [found[key] for key in keys]


def _is_done(now: Component, before: Component) -> bool:
    began = (now["restarts"], now["started_at"]) != (before["restarts"], before["started_at"])
    return began and bool(now["started_at"]) and now["status"] in SERVING


async def _components(session: aiohttp.ClientSession, api: Api) -> dict[str, Component]:
    told: dict[str, Any] = await get_json(session, api.at("/api/runtime/components"), api.key)
    return {each["key"]: each for each in told["components"]}


def _show(told: Sequence[Component]) -> None:
    table = aligned("COMPONENT", "STATUS", "RESTARTS", "DETAILS", numbers={"RESTARTS"})
    for each in told:
        table.add_row(
            cell(each["display"]),
            cell(each["status"], STYLES.get(each["status"], "")),
            cell(each["restarts"]),
            cell(each["message"]),
        )
    stdout().print(table)

"""`sentinel restart` on a cluster: pods are replaced one by one, and watched meanwhile."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from backend.cli.aliases import key_of
from backend.cli.console import Failure, printable, stderr
from backend.cli.deployed import Component
from backend.cli.operated import ClusterAt
from backend.ports.cluster import RESTART_ORDER, Status
from backend.ports.workloads import Rollout, Workloads
from extauthz.core.errors import NotFound, Retryable

WAIT_SECONDS: Final = 600.0  # of each, as Deployments themselves give up
POLL_SECONDS: Final = 0.5


async def restart_on_cluster(at: ClusterAt, component: str, *, wait: bool) -> Sequence[Component]:
    """Restart one, or all of Sentinel's own; the components as they are then.

    Raises:
        Failure: one does not serve again. Those after it are left alone.
    """
    async with at.opened() as workloads:
        keys = [key_of(component)] if component else await _ours(workloads)
        console = stderr()
        with console.status("") as status:
            for number, key in enumerate(keys, 1):
                await workloads.begin_restart(key)
                if not wait:
                    continue

                def tell(told: str, key: str = key, number: int = number) -> None:
                    status.update(printable(f"{key} ({number} of {len(keys)}): {told}"))

                if fault := await rolled_out(workloads, key, tell, WAIT_SECONDS):
                    mend = f"see `sentinel logs {key}`, `sentinel status`"
                    left = f"; left alone: {', '.join(keys[number:])}" if keys[number:] else ""
                    raise Failure(f"{key} does not serve again: {fault}{left}; {mend}")
        states = {each.key: each for each in await workloads.components()}
        return [msgspec.to_builtins(states[key]) for key in keys]


async def rolled_out(
    workloads: Workloads, key: str, tell: Callable[[str], None], seconds: float
) -> str:
    """Wait until a component serves in its newest form; why it does not, empty where it does.

    Args:
        tell: is told how far it has come.
        seconds: the longest wait.
    """
    deadline, rollout = time.monotonic() + seconds, Rollout(False, "nothing is known of it")
    while time.monotonic() < deadline:
        try:
            rollout = await workloads.rollout(key)
        except Retryable as error:  # it may answer again
            tell(str(error))
        else:
            if rollout.is_done:
                return ""
            tell("; ".join(filter(None, (rollout.told, rollout.fault))))
            if rollout.is_stuck:
                break
        await asyncio.sleep(POLL_SECONDS)
    late = "" if rollout.is_stuck else f"not within {seconds:.0f} s: "
    return late + (rollout.fault or rollout.told)


async def _ours(workloads: Workloads) -> Sequence[str]:
    """Those that run, in the order in which they are restarted."""
    states = {each.key: each for each in await workloads.components()}
    unknown = next((each for each in states.values() if each.status is Status.UNKNOWN), None)
    if unknown is not None:
        raise Failure(unknown.message)
    absent = {Status.NOT_DEPLOYED}
    running = {key for key, each in states.items() if each.status not in absent and each.resource}
    found = [key for key in RESTART_ORDER if key in running and key != "sidecar"]
    if not found:
        raise NotFound("no component is deployed here; install them: `kubectl apply -k k8s`")
    return found

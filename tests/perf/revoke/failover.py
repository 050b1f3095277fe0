"""How long nobody revokes when the leading controller ends, or dies."""

import time
from contextlib import ExitStack
from typing import Final

from tests.perf.revoke.fleet import running_fleet
from tests.perf.revoke.world import World
from tests.tools.controller_process import ControllerProcess
from tests.tools.ports import free_port
from tests.tools.waiting import eventually

SIDECARS: Final = 10
HOSTS: Final = {"one": "127.0.0.1", "two": "::1"}  # `localhost` is both


def measure(world: World, rounds: int) -> dict[str, list[float]]:
    """Seconds from a leader's end until a grant that is revoked just then is denied by all.

    Returns:
        By how it ends: `SIGTERM`, as in a rollout, and `SIGKILL`.
    """
    found: dict[str, list[float]] = {"SIGTERM": [], "SIGKILL": []}
    if not rounds:
        return found
    port = free_port()
    settings = {"CONTROLLER_PORT": str(port), "CONTROLLER_DNS_NAMES": "localhost"}
    with ExitStack() as opened:

        def start(name: str) -> ControllerProcess:
            host = {"HOST": HOSTS[name]}
            return opened.enter_context(world.controller(name, **settings, **host))

        replicas = {name: start(name) for name in HOSTS}
        options = [world.pods.options(f"localhost:{port}") for _ in range(SIDECARS)]
        fleet = opened.enter_context(running_fleet(options))
        fleet.until("allow")
        for way, seconds in [each for each in found.items() for _ in range(rounds)]:
            leader = eventually(lambda: _leader(replicas), "one of them leads")
            began = time.monotonic_ns()
            if way == "SIGTERM":
                replicas[leader].end()
            else:
                replicas[leader].kill()
            world.writer.grant(disabled=True)
            seconds.append((fleet.until("deny") - began) / 1e9)
            world.writer.grant(disabled=False)
            fleet.until("allow")
            replicas[leader] = start(leader)
    return found


def _leader(replicas: dict[str, ControllerProcess]) -> str:
    return next((name for name, each in replicas.items() if each.leads()), "")

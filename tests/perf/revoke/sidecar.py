"""A sidecar's stream client as a process: `python -m tests.perf.revoke.sidecar OPTIONS`.

The product's own source and snapshot. Whenever a swap changes how the call is decided, it prints
`allow` or `deny` with the time of `CLOCK_MONOTONIC`, which all processes share.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from extauthz.core.decision import Effect, PolicyFacts
from extauthz.core.policy import Policy
from extauthz.core.request import Call, Identity
from extauthz.sources.policies import Policies
from extauthz.sources.stream.options import StreamOptions
from extauthz.sources.stream.source import StreamSource

AGENT: Final = "agent-0000"
TOOL: Final = "echo"


class Told(Policies):
    """Prints what a swap has changed."""

    _effect: Effect | None = None

    def run(self, policy: Policy, *, confirmed_at: float, now: float) -> None:
        super().run(policy, confirmed_at=confirmed_at, now=now)
        call = Call(method="tools/call", tool=TOOL, rpc_id=1)
        decision = self.current.decide_call(call, Identity(agent_id=AGENT), None, now)
        if decision.effect is not self._effect:
            self._effect = decision.effect
            os.write(1, f"{decision.effect.value} {time.monotonic_ns()}\n".encode())


async def main(options: StreamOptions) -> None:
    """Follow until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    policies = Told(PolicyFacts(server=options.server, namespace=options.namespace))
    source = StreamSource(options, policies, time.time)
    await source.look()
    await source.follow(stop)


def path(kind: type, value: str) -> Path:
    """How msgspec reads one."""
    return kind(value)  # type: ignore[no-any-return]


if __name__ == "__main__":
    logging.getLogger().addHandler(logging.NullHandler())  # what goes wrong shows in the figures
    uvloop.run(main(msgspec.json.decode(sys.argv[1], type=StreamOptions, dec_hook=path)))

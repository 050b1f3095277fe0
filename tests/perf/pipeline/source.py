"""`python -m tests.perf.pipeline.source`: the real emitter, fed with real decisions; prints JSON.

Standard input tells how many events are in the store, so that `--window` can bound how many are
on their way.
"""

import argparse
import asyncio
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import uuid_utils
import uvloop
from msgspec.structs import replace

from extauthz.emitter import Emitter, EmitterOptions
from tests.perf.pipeline.traffic import Fleet, Traffic

_POOL = 5_000
_TICK_SECONDS = 0.01
_PENDING_MOST = 5_000  # the emitter turns to its spool at half of QUEUE_MAX_EVENTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("spool", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="calls per second; 0: most")
    parser.add_argument("--window", type=int, default=0, help="most events on their way")
    uvloop.install()
    print(json.dumps(asyncio.run(_run(parser.parse_args()))))


async def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    pool = list(itertools.islice(Traffic(Fleet(), 7, time.time()).calls(), _POOL))
    stored = _Stored()
    await asyncio.get_running_loop().connect_read_pipe(lambda: stored, sys.stdin)
    options = EmitterOptions(
        arguments.url,
        arguments.spool,
        api_key=arguments.key,
        gateway="bench-gateway",
        server=pool[0].decision.policy.server,
        namespace=pool[0].decision.policy.namespace,
        cluster=pool[0].decision.policy.cluster,
    )
    emitter = Emitter(options, time.time, lambda: str(uuid_utils.uuid7()))
    await emitter.start()
    times: list[float] = []
    begin, cpu = time.monotonic(), time.process_time()
    calls = itertools.cycle(pool)
    while (spent := time.monotonic() - begin) < arguments.seconds:
        if arguments.rate:
            due = int(spent * arguments.rate) - len(times)
        else:
            on_way = len(times) - stored.count
            due = min(200, arguments.window - on_way, _PENDING_MOST - emitter.counts().pending)
        if due > 0:
            made = list(itertools.islice(calls, due))
            times += [time.time()] * due
            decisions = emitter.record([(m.asked, replace(m.decision, id="")) for m in made])
            for call, decision in zip(made, decisions, strict=True):
                emitter.outcome(decision.id, call.outcome)
        await asyncio.sleep(_TICK_SECONDS if arguments.rate or due <= 0 else 0)
    used = time.process_time() - cpu
    await emitter.stop(20.0)
    return {"times": times, "cpu_seconds": used}


class _Stored(asyncio.Protocol):
    """The last number that came in, a line each."""

    def __init__(self) -> None:
        self.count = 0
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines:
            self.count = int(lines[-1])


if __name__ == "__main__":
    main()

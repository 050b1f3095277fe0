"""A process with an emitter in it, for tests that kill it.

    python emitter_child.py OPTIONS_JSON COUNT

Records COUNT calls, a line to stdout for each hundred, then one more every few milliseconds
until it is killed. With COUNT 0 it starts, drains what is there, and ends.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import uuid_utils

from extauthz.core.decision import Decision, Effect, PolicyFacts
from extauthz.core.events import Asked, Outcome
from extauthz.core.reasons import Reason
from extauthz.core.request import Call
from extauthz.emitter import Emitter, EmitterOptions


async def main(options: EmitterOptions, count: int) -> None:
    emitter = Emitter(options, time.time, lambda: str(uuid_utils.uuid7()))
    await emitter.start()
    asked = Asked("POST", "/mcp")
    decision = Decision(
        Effect.ALLOW, Reason.ALLOWED, PolicyFacts("billing"), Call(method="tools/call", tool="echo")
    )
    place = 0
    while count:
        place += 1
        [recorded] = emitter.record([(asked, decision)])
        if place % 3:
            emitter.outcome(recorded.id, Outcome(200, 1.0, 1, 1))
        if place % 100 == 0:
            print(place, flush=True)
        if place % 20 == 0 or place > count:
            await asyncio.sleep(0.002)
    while emitter.counts().spooled:
        await asyncio.sleep(0.01)
    await emitter.stop(10)


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    told["spool_folder"] = Path(told["spool_folder"])
    asyncio.run(main(EmitterOptions(**told), int(sys.argv[2])))

"""kill -9 of the decision point under load, behind real Envoy.

CHAOS_SECONDS makes it longer; CHAOS_SEED repeats a run.
"""

import asyncio
import os
import random
import time
from functools import partial

import pytest

from tests.chaos.decision_point import Point, decision_point
from tests.tools.waiting import soon

SECONDS = float(os.environ.get("CHAOS_SECONDS", "5"))
SEED = int(os.environ.get("CHAOS_SEED", "20261122"))

pytestmark = pytest.mark.timeout(600 + 2 * SECONDS)


async def live_and_die(point: Point, chance: random.Random) -> dict[str, int]:
    """Kill it under load at random moments, at least twice, until the time is over.

    Returns:
        The sequences that each start took, the last one's included.
    """
    taken = {}
    until = time.monotonic() + SECONDS
    await point.start()
    async with point.load(connections=chance.choice([4, 16, 64])):
        while len(taken) < 2 or time.monotonic() < until:
            point.ingest.status = chance.choice([202, 202, 503])
            await asyncio.sleep(chance.uniform(0.2, 1.2))
            gateway_start, count = await point.kill()
            taken[gateway_start] = count
            enough = point.counts[503] + 10
            await soon(partial(lambda least: point.counts[503] >= least, enough), "it is missed")
            point.ingest.status = 202
            await point.start()
        await asyncio.sleep(0.2)
    gateway_start, count = await point.stop()
    return taken | {gateway_start: count}


@pytest.mark.parametrize("mode", ["besteffort", "durable"])
async def test_killed_under_load(mode: str) -> None:
    """No call passes undecided while it is away or dying, and what was decided is accounted for.

    Durable: each decided call is found exactly once. Best effort: each that is missing lies in
    a gap. Either way events and gaps make up every sequence, to the event.
    """
    print("CHAOS_SEED", SEED)
    async with decision_point(AUDIT_MODE=mode, COMPLETION_WAIT_SECONDS="0.3") as point:
        taken = await live_and_die(point, random.Random(SEED))
        lost = point.check_accounts(taken)
        missing = point.check_answers()
        print(dict(point.counts), "lost", lost, missing[:3])
        assert len(taken) >= 3
        assert set(point.counts) == {200, 503}
        assert {a.reason for a in point.answers.values() if a.status == 200} == {"", "tool_denied"}
        if mode == "durable":
            assert missing == []
        else:
            assert len(missing) <= sum(lost.values())
        assert "Traceback" not in point.log()

"""One run: faults in an order that the seed decides, then the verdict."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from random import Random

from tests.chaos.calls import calling
from tests.chaos.check import POISON_SOURCE, Verdict, judge
from tests.chaos.faults import Fault, P, Pipeline, all_decided
from tests.chaos.trail import Trail, read_trail
from tests.tools.waiting import soon

STRIKE_SECONDS = 600.0  # for one fault, and all to work again
QUIET_SECONDS = 180.0  # for all that is under way to be stored


def order(faults: Sequence[Fault[P]], chance: Random) -> Iterator[Fault[P]]:
    """Every fault once, in random order; then again."""
    while True:
        yield from chance.sample(faults, len(faults))


async def strike_all(
    pipeline: P, faults: Sequence[Fault[P]], *, least: int, seconds: float, restart: Fault[P] | None
) -> list[str]:
    """Load and faults, until each has struck, and so many in all, and the time is over.

    Args:
        restart: is put in where the pipeline needs it.

    Returns:
        Names of the faults that struck.
    """
    struck: list[str] = []
    began = time.monotonic()

    async def strike(fault: Fault[P]) -> None:
        at = time.monotonic()
        try:
            async with asyncio.timeout(STRIKE_SECONDS):
                seen = await fault.strike(pipeline)
        except TimeoutError as error:
            raise TimeoutError(f"{fault.name}: {error or 'it does not end'}") from error
        struck.append(fault.name)
        took = time.monotonic() - at
        print(f"  {at - began:6.1f} s  {fault.name}: {seen} ({took:.1f} s)", flush=True)
        await all_decided(pipeline)

    await pipeline.start()
    async with calling(pipeline.gateways):
        await all_decided(pipeline)
        for gateway in pipeline.gateways:  # refusals before the first decision are no outage
            gateway.outages[:] = [[0.0, time.monotonic()]]
        for place, fault in enumerate(order(faults, pipeline.run.chance)):
            is_enough = place >= len(faults) and len(struck) >= least
            if is_enough and time.monotonic() - began >= seconds:
                break
            if restart and pipeline.is_tired():
                await strike(restart)
            await strike(fault)
    return struck


async def verdict_on(pipeline: Pipeline) -> tuple[Verdict, Trail]:
    """Let everything drain and end, then compare."""
    await soon(pipeline.is_quiet, "all is stored and committed", QUIET_SECONDS, every=0.3)
    letters = await _letters(pipeline)
    await pipeline.stop()
    trail = read_trail(pipeline.store)
    verdict = judge(trail, pipeline.gateways, pipeline.run.foreign)
    kept = sum(row.source == POISON_SOURCE for row in trail.rows)
    if letters + kept != pipeline.run.poisoned:
        verdict.problems.append(
            f"{pipeline.run.poisoned} records were poison; {letters} lie aside, {kept} are stored"
        )
    return verdict, trail


async def _letters(pipeline: Pipeline) -> int:
    """How many records were set aside."""
    if not pipeline.run.poisoned:
        return 0
    log = pipeline.event_log()
    await log.start()
    try:
        return len(await log.dead_letters(100_000))
    finally:
        await log.stop()

"""kill -9 at several points; then every sequence is received or told as missing."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from extauthz.emitter.mark import MarkReading, read_mark
from tests.tools.waiting import SECONDS, soon

ROOT = Path(__file__).parents[4]
CHILD = Path(__file__).with_name("emitter_child.py")


async def spawn(options: dict[str, Any], count: int) -> asyncio.subprocess.Process:
    told = json.dumps(options | {"spool_folder": str(options["spool_folder"])})
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(CHILD),
        told,
        str(count),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


async def live_and_die(options: dict[str, Any], count: int) -> MarkReading:
    """Run a process until it has recorded `count` calls, kill it, and read its mark."""
    child = await spawn(options, count)
    assert child.stdout is not None
    for _ in range(count // 100):
        assert await asyncio.wait_for(child.stdout.readline(), SECONDS)
    child.kill()
    await child.wait()
    reading = read_mark(options["spool_folder"] / "mark")
    assert reading is not None
    return reading


async def live_and_drain(options: dict[str, Any]) -> MarkReading:
    child = await spawn(options, 0)
    assert await asyncio.wait_for(child.wait(), SECONDS) == 0
    reading = read_mark(options["spool_folder"] / "mark")
    assert reading is not None
    return reading


LIVES = [
    ["accept", "accept"],
    [500, "accept"],
    ["die", 503],
    ["stall", "die"],
    ["poison", 500],
    ["full", "full"],
]


@pytest.mark.parametrize("lives", LIVES, ids=str)
async def test_killed_process_leaves_no_unexplained_hole(lives, ingest, options) -> None:
    """Received and told make up what was taken; what came twice says `resent`."""
    taken = {}
    for place, life in enumerate(lives):
        ingest.poison = b'"sequence":50}' if life == "poison" else b""
        ingest.behaviour = {"poison": "accept", "full": 503}.get(life, life)
        bounds = {"heartbeat_seconds": 0.1}
        if life == "stall":
            bounds |= {"request_timeout_seconds": 0.5}
        if life == "full":
            bounds |= {"queue_max_events": 100, "batch_max_events": 20, "spool_max_bytes": 2**16}
        reading = await live_and_die(options | bounds, 400 + 300 * place)
        assert reading.next_sequence > 400
        taken[reading.gateway_start] = reading.next_sequence - 1
    ingest.behaviour, ingest.poison = "accept", b""
    last = await live_and_drain(options)
    assert last.settled == last.next_sequence
    taken[last.gateway_start] = last.next_sequence - 1
    assert len(taken) == len(lives) + 1
    ingest.check_accounts(taken)


async def test_what_was_spooled_survives_the_kill(ingest, options) -> None:
    """With ingest away a kill costs the last moments, not what had reached the disk."""
    ingest.behaviour = 500
    child = await spawn(options, 300)
    assert child.stdout is not None
    for _ in range(3):
        assert await asyncio.wait_for(child.stdout.readline(), SECONDS)

    def settled() -> int:
        reading = read_mark(options["spool_folder"] / "mark")
        return reading.settled if reading else 0

    await soon(lambda: settled() > 300)
    safe = settled()
    child.kill()
    await child.wait()
    ingest.behaviour = "accept"
    await live_and_drain(options)
    first = ingest.received[0]["payload"]["gateway_start"]
    mine = [e for e in ingest.received if e["payload"]["gateway_start"] == first]
    assert {e["payload"]["sequence"] for e in mine} >= set(range(1, safe))
    assert all(e["resent"] for e in mine)


async def test_kill_during_start_loses_nothing(ingest, options) -> None:
    """A process that is killed as it takes over leaves the taking over to the next."""
    ingest.behaviour = 500
    reading = await live_and_die(options, 200)
    taken = {reading.gateway_start: reading.next_sequence - 1}
    for delay in (0.25, 0.35, 0.45):  # wherever these fall, the accounts must hold
        child = await spawn(options, 100_000)
        await asyncio.sleep(delay)
        child.kill()
        await child.wait()
        reading = read_mark(options["spool_folder"] / "mark")
        assert reading is not None
        taken[reading.gateway_start] = reading.next_sequence - 1
    ingest.behaviour = "accept"
    reading = await live_and_drain(options)
    taken[reading.gateway_start] = reading.next_sequence - 1
    ingest.check_accounts(taken)

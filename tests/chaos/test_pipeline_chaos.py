"""The whole pipeline under load, with all that can break in it: nothing is lost, nothing doubled.

CHAOS_SECONDS makes it longer; CHAOS_SEED repeats a run.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from tests.chaos.check import Accounts, judge
from tests.chaos.embedded import Embedded
from tests.chaos.embedded_faults import FAULTS as EMBEDDED
from tests.chaos.embedded_faults import RESTART
from tests.chaos.faults import Fault, P, Run
from tests.chaos.schedule import strike_all, verdict_on
from tests.chaos.split import Split
from tests.chaos.split_faults import FAULTS as SPLIT
from tests.chaos.trail import read_trail

SECONDS = float(os.environ.get("CHAOS_SECONDS", "0"))
SEED = int(os.environ.get("CHAOS_SEED", "20261122"))
AWAY_SECONDS = 60.0 if SECONDS else 2.0


def chosen(faults: Sequence[Fault[P]]) -> list[Fault[P]]:
    """All, or those that CHAOS_ONLY names a part of."""
    wanted = os.environ.get("CHAOS_ONLY", "").split(",")
    return [fault for fault in faults if any(each in fault.name for each in wanted)]


async def survive(pipeline: P, faults: Sequence[Fault[P]], restart: Fault[P] | None = None) -> None:
    """Run the schedule, and prove that nothing is lost, and that a loss would be found."""
    run = pipeline.run
    print(f"\n{pipeline.name} seed={SEED}")
    try:
        struck = await strike_all(
            pipeline, faults, least=len(faults), seconds=SECONDS, restart=restart
        )
        verdict, trail = await verdict_on(pipeline)
    finally:
        await pipeline.end()
    print(f"seed={SEED} faults={len(struck)} {verdict}")
    assert not verdict.problems, "\n".join(verdict.problems)
    assert verdict.lost == verdict.explained
    assert verdict.duplicated == 0
    accounts = Accounts(trail.rows)
    gone = next(
        row
        for row in trail.rows
        if row.member("reason") == "allowed"
        and row.member("sequence") not in accounts.told[row.member("gateway_start")]
    )
    found = judge(
        read_trail(pipeline.store, without=(gone.event_id,)), pipeline.gateways, run.foreign
    )
    assert (found.lost, found.explained) == (verdict.lost + 1, verdict.explained)
    assert any("holes" in problem for problem in found.problems)


@pytest.mark.parametrize("mode", ["durable", "besteffort"])
async def test_embedded(mode: str, tmp_path: Path) -> None:
    """Every answered decision is stored once, or lies, in best effort, in a gap."""
    up = Embedded(Run(Random(SEED), AWAY_SECONDS, tmp_path), mode)
    faults = chosen([fault for fault in EMBEDDED if mode in fault.modes])
    await survive(up, faults, RESTART)


async def test_split(tmp_path: Path) -> None:
    """Likewise with every component alone, Kafka between them, and a sidecar of either mode."""
    await survive(Split(Run(Random(SEED), AWAY_SECONDS, tmp_path)), chosen(SPLIT))

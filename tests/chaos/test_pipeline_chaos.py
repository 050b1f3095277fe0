"""The whole pipeline under load, with all that can break in it: nothing is lost, nothing doubled.

CHAOS_SECONDS makes it longer; CHAOS_SEED repeats a run.
"""

import os
from pathlib import Path
from random import Random

import pytest

from tests.chaos.check import judge
from tests.chaos.embedded import Embedded
from tests.chaos.embedded_faults import FAULTS, RESTART
from tests.chaos.faults import Run
from tests.chaos.schedule import strike_all, verdict_on
from tests.chaos.trail import read_trail

SECONDS = float(os.environ.get("CHAOS_SECONDS", "0"))
SEED = int(os.environ.get("CHAOS_SEED", "20261122"))
AWAY_SECONDS = 60.0 if SECONDS else 2.0


@pytest.mark.parametrize("mode", ["durable", "besteffort"])
async def test_embedded(mode: str, tmp_path: Path) -> None:
    """Every answered decision is stored once, or lies, in best effort, in a gap."""
    run = Run(Random(SEED), AWAY_SECONDS, tmp_path)
    up = Embedded(run, mode)
    faults = [fault for fault in FAULTS if mode in fault.modes]
    if only := os.environ.get("CHAOS_ONLY"):
        faults = [fault for fault in faults if only in fault.name]
    print(f"\n{up.name} {mode} seed={SEED}")
    try:
        struck = await strike_all(up, faults, least=len(faults), seconds=SECONDS, restart=RESTART)
        verdict, trail = await verdict_on(up)
    finally:
        up.end()
    print(f"seed={SEED} faults={len(struck)} {verdict}")
    assert not verdict.problems, "\n".join(verdict.problems)
    assert verdict.lost == verdict.explained
    assert verdict.duplicated == 0
    gone = next(row for row in trail.rows if row.member("reason") == "allowed")
    found = judge(read_trail(up.store, without=(gone.event_id,)), up.gateways, run.foreign)
    assert (found.lost, found.explained) == (verdict.lost + 1, verdict.explained)
    assert any("holes" in problem for problem in found.problems)

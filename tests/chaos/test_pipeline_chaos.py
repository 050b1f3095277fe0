"""The whole pipeline under load, with all that can break in it: nothing is lost, nothing doubled.

CHAOS_SECONDS makes it longer, CHAOS_SEED repeats a run; README.md tells the rest.
"""

import os
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest

from tests.chaos.calls import Gateway
from tests.chaos.check import Accounts, judge
from tests.chaos.embedded import Embedded
from tests.chaos.embedded_faults import FAULTS as EMBEDDED
from tests.chaos.embedded_faults import RESTART
from tests.chaos.faults import MODES, Fault, P, Run, dealt
from tests.chaos.schedule import strike_all, verdict_on
from tests.chaos.split import Split
from tests.chaos.split_faults import FAULTS as SPLIT
from tests.chaos.trail import Row, Trail, read_trail

SECONDS = float(os.environ.get("CHAOS_SECONDS", "0"))
SEED = int(os.environ.get("CHAOS_SEED", "20261122"))
AWAY_SECONDS = float(os.environ.get("CHAOS_AWAY_SECONDS", "60" if SECONDS else "2"))
LEAST = 50 if SECONDS else 0  # faults of a wiring; the modes of the embedded one share them

pytestmark = pytest.mark.timeout(4 * 3600 if SECONDS else 1200)  # many faults, one after the other


def chosen(faults: Sequence[Fault[P]]) -> list[Fault[P]]:
    """All, or those of which CHAOS_ONLY names a part."""
    wanted = os.environ.get("CHAOS_ONLY", "").split(",")
    return [fault for fault in faults if any(each in fault.name for each in wanted)]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints whatever becomes of the test."""

    def tell(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", flush=True)

    return tell


async def survive(
    pipeline: P,
    faults: Sequence[Fault[P]],
    tell: Callable[[str], None],
    *,
    least: int,
    restart: Fault[P] | None = None,
) -> None:
    """Run the schedule, and prove that nothing is lost, and that a loss would be found."""
    run = pipeline.run
    try:
        struck = await strike_all(pipeline, faults, least=least, seconds=SECONDS, restart=restart)
        verdict, trail = await verdict_on(pipeline)
    finally:
        await pipeline.end()
    tell(f"{pipeline.name} seed={SEED} faults={len(struck)} {verdict}")
    assert not verdict.problems, "\n".join(verdict.problems)
    assert verdict.lost == verdict.explained
    assert verdict.duplicated == 0
    gone = untold(trail, pipeline.gateways)
    found = judge(
        read_trail(pipeline.store, without=(gone.event_id,)), pipeline.gateways, run.foreign
    )
    assert (found.lost, found.explained) == (verdict.lost + 1, verdict.explained)
    assert any("holes" in problem for problem in found.problems)


def untold(trail: Trail, gateways: Sequence[Gateway]) -> Row:
    """An answered call whose loss no gap could explain.

    A gap may tell of numbers that no call answered had: one of them could stand for a call nearby.
    So it is the call farthest from all that are told, and from both ends of its start.
    """
    accounts = Accounts(trail.rows)
    answered = {answer.trace_id for gateway in gateways for answer in gateway.answers}
    near = {
        start: sorted(accounts.told[start] | {min(stored), max(stored)})
        for start, stored in accounts.stored.items()
    }

    def room(row: Row) -> int:
        edges, sequence = near[row.member("gateway_start")], row.member("sequence")
        above = bisect_left(edges, sequence)
        return min(abs(sequence - edge) for edge in edges[max(0, above - 1) : above + 1])

    allowed = (row for row in trail.rows if row.member("reason") == "allowed")
    return max((row for row in allowed if row.trace_id in answered), key=room)


@pytest.mark.parametrize("mode", MODES)
async def test_embedded(mode: str, tmp_path: Path, tell: Callable[[str], None]) -> None:
    """Every answered decision is stored once, or lies, in best effort, in a gap."""
    up = Embedded(Run(Random(SEED), AWAY_SECONDS, tmp_path), mode)
    share = dealt(EMBEDDED, mode)
    if SECONDS:
        share = [fault for fault in EMBEDDED if mode in fault.modes]
    await survive(up, chosen(share), tell, least=LEAST // 2, restart=RESTART)


async def test_split(tmp_path: Path, tell: Callable[[str], None]) -> None:
    """Likewise with every component alone, Kafka between them, and a sidecar of either mode."""
    faults = [fault for fault in SPLIT if fault.bounded or SECONDS]
    split = Split(Run(Random(SEED), AWAY_SECONDS, tmp_path))
    await survive(split, chosen(faults), tell, least=LEAST)

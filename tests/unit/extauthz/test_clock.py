"""A clock that is set back gives nobody a right again."""

import logging

import pytest

from extauthz.clock import SteadyClock
from extauthz.core.compile import compile_document
from extauthz.core.decide import Snapshot
from extauthz.core.reasons import Reason
from extauthz.core.request import Call, Identity

NOON = 1_780_000_000.0
EXPIRES = "2026-05-28T20:27:20Z"  # forty seconds after


class Times:
    """A wall clock and a monotonic one, moved by hand."""

    def __init__(self) -> None:
        self.wall, self.monotonic = NOON, 100.0

    def clock(self) -> SteadyClock:
        return SteadyClock(lambda: self.wall, lambda: self.monotonic)

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def test_it_follows_the_wall_clock_forward() -> None:
    """Also when that jumps."""
    times = Times()
    clock = times.clock()
    times.passes(3)
    assert clock() == NOON + 3
    times.wall += 3600
    assert clock() == NOON + 3603


def test_it_goes_on_where_the_wall_clock_was_set_back(log: pytest.LogCaptureFixture) -> None:
    """By what has really passed; it says so once, and follows again when that has caught up."""
    times = Times()
    clock = times.clock()
    times.passes(60)
    clock()
    times.wall -= 3600
    with log.at_level(logging.WARNING):
        assert clock() == NOON + 60
        times.passes(5)
        assert clock() == NOON + 65
    assert log.text.count("the clock was set back") == 1
    times.passes(1)
    times.wall += 4000
    assert clock() == times.wall


def test_a_clock_set_back_revives_no_grant() -> None:
    """What was denied as expired a moment ago is denied now."""
    policy = compile_document(
        {
            "server": {"name": "s", "namespace": "n"},
            "grants": [
                {"name": "g", "agent_id": "a", "expires_at": EXPIRES},
            ],
        }
    )
    snapshot, times = Snapshot.of(policy, NOON), Times()
    clock = times.clock()
    call, who = Call(method="tools/call", tool="t", rpc_id=1), Identity(agent_id="a")

    def reason() -> Reason:
        return snapshot.decide_call(call, who, None, clock()).reason

    assert reason() is Reason.ALLOWED
    times.passes(60)
    assert reason() is Reason.GRANT_EXPIRED
    times.wall = NOON
    assert reason() is Reason.GRANT_EXPIRED

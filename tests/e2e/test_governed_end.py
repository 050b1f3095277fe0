"""Ctrl-C while calls run: what is left of them."""

import signal
from pathlib import Path

from tests.tools.stack import (
    ALLOWED,
    ask,
    assert_audited,
    assert_whole,
    calls_by_trace,
    load,
    started,
    stored,
)
from tests.tools.waiting import eventually

CALLS = 50  # answered of each kind before Ctrl-C


async def test_ctrl_c_under_load_loses_no_event(tmp_path: Path) -> None:
    """Every answered call, allowed or denied, is in the trail once; no answer is a failure."""
    with started(tmp_path / "state") as up:
        async with load(up, "ops-agent") as allowed, load(up, "unknown-agent") as denied:
            await allowed.answered(CALLS)
            await denied.answered(CALLS)
            up.process.send_signal(signal.SIGINT)
            await allowed.all_cut()
            await denied.all_cut()
        assert up.wait() == 0, up.log.read_text()
        assert up.is_gone()
    assert {answer.reason for answer in allowed.answers} == {ALLOWED}
    assert {answer.reason for answer in denied.answers} == {"no_matching_grant"}

    answers = [*allowed.answers, *denied.answers]
    with started(up.state) as again:

        def is_stored() -> bool:
            return bool(ask(again, "/api/stats")["events_total"] >= len(answers))

        eventually(is_stored, "all calls in the store")
        assert again.stop() == 0
    trail = stored(up.state)
    assert_whole(trail)
    assert_audited(answers, trail)
    traces, sent = calls_by_trace(trail), allowed.sent | denied.sent
    assert traces.keys() <= sent
    assert all(len(payloads) == 1 for payloads in traces.values())

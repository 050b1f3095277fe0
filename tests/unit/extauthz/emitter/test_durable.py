"""Durable audit: on disk before `record` returns, or a denial."""

import asyncio
import errno
import os
from typing import Any

import pytest

from extauthz.core.events import Asked, Outcome
from extauthz.core.reasons import Reason
from extauthz.emitter.journal import read_journal
from tests.tools.waiting import SECONDS, soon

FOREVER = 3600.0


@pytest.fixture
def durable(options: dict[str, Any], running):
    """Runs a durable emitter: `async with durable() as emitter`."""

    def run(**changed: Any):
        return running(**{"durable": True} | changed)

    return run


def on_disk(options: dict[str, Any]) -> list[bytes]:
    return [body for left in read_journal(options["spool_folder"]) for _, body in left.events]


class FullDisk:
    """Makes each write to the journal fail while `full`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = True
        self._real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._sync)

    def _sync(self, descriptor: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "no room")
        self._real(descriptor)


async def test_call_is_on_disk_before_it_is_answered(durable, record, options) -> None:
    """Allowed and denied alike."""
    async with durable(completion_wait_seconds=FOREVER, flush_seconds=FOREVER) as emitter:
        for effect in ("allow", "deny"):
            decision = await record(emitter, effect=effect)
            assert decision.effect == effect
            assert decision.id.encode() in on_disk(options)[-1]


async def test_calls_share_a_write(durable, options, monkeypatch) -> None:
    """What is answered together is written together."""
    async with durable(completion_wait_seconds=FOREVER) as emitter:
        emitter.record([(Asked("POST", "/mcp"), decided())])  # which begins a file
        writes, real = [], os.fdatasync
        monkeypatch.setattr(os, "fdatasync", lambda descriptor: writes.append(real(descriptor)))
        emitter.record([(Asked("POST", "/mcp"), decided()) for _ in range(500)])
        assert len(writes) == 1
        assert len(on_disk(options)) == 501


async def test_journal_is_gone_when_all_is_sent(ingest, durable, record, options) -> None:
    """An orderly end leaves no file; each event came once, with its outcome."""
    async with durable() as emitter:
        decision = await record(emitter)
        emitter.outcome(decision.id, Outcome(200, 12.3456, 100, 2000, "DC"))
        await record(emitter)
    assert on_disk(options) == []
    with_outcome, without = ingest.of("mcp.request")
    assert with_outcome.keys() - without.keys() == {
        "status",
        "latency_ms",
        "bytes_in",
        "bytes_out",
        "response_flags",
    }
    assert (with_outcome["latency_ms"], with_outcome["sequence"]) == (12.346, 2)
    assert [event.get("resent") for event in ingest.received] == [None] * 3


async def test_event_reads_as_in_best_effort(ingest, running, record) -> None:
    """Durable or not, a call's event has the same members."""
    for durable in (False, True):
        async with running(durable=durable) as emitter:
            decision = await record(emitter)
            emitter.outcome(decision.id, Outcome(200, 1.0, 1, 1))
    first, second = ingest.of("mcp.request")
    assert first.keys() == second.keys()


async def test_call_that_is_not_on_disk_is_denied(
    ingest, durable, record, options, monkeypatch, log
) -> None:
    """Its event tells of the denial, as does a log line; when room is back, calls pass."""
    disk = FullDisk(monkeypatch)
    async with durable() as emitter:
        for effect in ("allow", "deny", "allow"):
            decision = await record(emitter, effect=effect)
            assert (decision.allowed, decision.reason) == (False, Reason.AUDIT_UNAVAILABLE)
            assert decision.id
        assert emitter.counts().faults == 1  # it rests, and asks again later
        disk.full = False

        async def is_allowed() -> bool:
            return (await record(emitter)).allowed

        await soon(is_allowed, "calls pass", every=0.05)
    assert log.text.count("the journal takes nothing; give it room") == 1
    assert "error='[Errno 28] no room'" in log.text
    told = [payload["reason"] for payload in ingest.of("mcp.request")]
    assert told[:3] == ["audit_unavailable"] * 3
    assert told[-1] == "allowed"
    assert ingest.of("audit.gap") == []


async def test_call_without_room_is_denied(ingest, durable, record, options) -> None:
    """Spool and memory full: the denial itself is told as a gap."""
    ingest.behaviour = 503
    async with durable(
        queue_max_events=100, batch_max_events=20, spool_max_bytes=16 * 4096
    ) as emitter:
        async with asyncio.timeout(SECONDS):
            while (await record(emitter)).allowed:
                pass
        ingest.behaviour = "accept"
        await soon(lambda: ingest.of("audit.gap"))
        assert (await record(emitter)).allowed
        start = emitter.gateway_start
        await soon(lambda: not emitter.counts().pending and not emitter.counts().spooled)
        counts = emitter.counts()
    ingest.check_accounts({start: counts.offered})
    assert {gap["cause"] for gap in ingest.of("audit.gap")} == {"queue_full"}


async def test_call_that_cannot_be_written_is_denied(durable, options) -> None:
    """A bug elsewhere must not let a call pass unrecorded; others of its batch are written."""
    async with durable() as emitter:
        broken, good = Asked("POST", "/mcp", trace_id="\ud800"), Asked("POST", "/mcp")
        refused, recorded = emitter.record([(broken, decided()), (good, decided())])
        assert refused.reason is Reason.AUDIT_UNAVAILABLE
        assert recorded.reason is Reason.INTERNAL_ERROR  # as decided
        assert emitter.counts().faults == 1


async def test_nothing_leaves_before_it_is_on_disk(ingest, durable, record, monkeypatch) -> None:
    """An event that is sent says what was answered, however slow the disk."""
    disk, may_fail = FullDisk(monkeypatch), asyncio.Event()
    loop, sync = asyncio.get_running_loop(), disk._sync

    def slow(descriptor: int) -> None:
        asyncio.run_coroutine_threadsafe(may_fail.wait(), loop).result(SECONDS)
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    async with durable() as emitter:
        call = asyncio.create_task(record(emitter, effect="deny"))
        await soon(lambda: ingest.of("gateway.start"))
        await asyncio.sleep(0.05)
        assert ingest.of("mcp.request") == []
        may_fail.set()
        await call
    [payload] = ingest.of("mcp.request")
    assert payload["reason"] == "audit_unavailable"


def decided():
    from extauthz.core.decide import failed
    from extauthz.core.decision import PolicyFacts

    return failed(PolicyFacts("billing"))

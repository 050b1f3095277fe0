import asyncio
import logging
from typing import Any

import pytest

from extauthz.core.errors import Invalid
from extauthz.core.events import Cause, Outcome
from extauthz.emitter import EmitterOptions
from extauthz.emitter.counts import CAUSES
from tests.tools.waiting import soon

OUTCOME = Outcome(200, 12.3456, 100, 2000, "DC")
FOREVER = 3600.0


def adds_up(counts: Any) -> bool:
    """The identity that `Counts` promises."""
    lost = sum(counts.dropped[c] for c in (Cause.QUEUE_FULL, Cause.REFUSED, Cause.UNENCODABLE))
    left = counts.offered + counts.recovered
    return left == counts.sent + counts.pending + counts.spooled + lost


def payload_of(event: dict[str, Any]) -> dict[str, Any]:
    payload: dict[str, Any] = event["payload"]
    return payload


async def test_call_and_outcome_are_one_event(ingest, running, record) -> None:
    """One mcp.request carries decision, outcome, gateway and sequence; its id is the decision's."""
    async with running(completion_wait_seconds=FOREVER) as emitter:
        decision = await record(emitter)
        emitter.outcome(decision.id, OUTCOME)
        await soon(lambda: ingest.of("mcp.request"))
        [event] = [one for one in ingest.received if one["event_type"] == "mcp.request"]
        assert event["event_id"] == event["payload"]["decision_id"] == decision.id
        assert event["source"] == "mcp-proxy"
        assert event["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
        assert (
            event["payload"].items()
            >= {
                "decision": "allow",
                "tool_name": "echo",
                "status": 200,
                "latency_ms": 12.346,
                "bytes_in": 100,
                "bytes_out": 2000,
                "response_flags": "DC",
                "gateway": "gateway-0",
                "gateway_start": emitter.gateway_start,
                "sequence": 2,
            }.items()
        )
        assert emitter.counts().joined == 1
    assert ingest.of("mcp.response") == []


async def test_late_outcome_follows_as_response(ingest, running, record) -> None:
    """A call that still runs is sent without outcome; the outcome names its decision."""
    async with running() as emitter:
        decision = await record(emitter)
        await soon(lambda: ingest.of("mcp.request"))
        assert "status" not in ingest.of("mcp.request")[0]
        emitter.outcome(decision.id, OUTCOME)
        await soon(lambda: ingest.of("mcp.response"))
        assert emitter.counts().late == 1
    [response] = ingest.of("mcp.response")
    assert (
        response.items()
        >= {
            "decision_id": decision.id,
            "request_id": "r-1",
            "server": "billing",
            "namespace": "team-a",
            "status": 200,
            "sequence": 3,
        }.items()
    )


async def test_outcome_of_an_earlier_process_is_kept(ingest, running) -> None:
    """An outcome whose call is not known here is sent on, not lost."""
    async with running() as emitter:
        emitter.outcome("01a20475-26a6-753e-b4fc-0347a65bc4de", OUTCOME)
    [response] = ingest.of("mcp.response")
    assert response["decision_id"] == "01a20475-26a6-753e-b4fc-0347a65bc4de"


async def test_running_calls_are_counted(running, record) -> None:
    """Allowed calls without an end; beyond the bound the oldest are forgotten."""
    async with running(queue_max_events=50) as emitter:
        await record(emitter, effect="deny")
        ids = [(await record(emitter)).id for _ in range(3)]
        assert emitter.counts().running == 3
        ended = emitter.outcome(ids[0], OUTCOME)
        assert ended
        assert ended[1].id == ids[0]
        assert emitter.outcome(ids[0], OUTCOME) is None
        assert emitter.outcome("nobody's", OUTCOME) is None
        assert emitter.counts().running == 2


async def test_denial_waits_for_no_outcome(ingest, running, record) -> None:
    """It leaves while an allowed call would still wait."""
    async with running(completion_wait_seconds=FOREVER) as emitter:
        await record(emitter, effect="deny")
        await soon(lambda: ingest.of("mcp.request"))
        await record(emitter)
        await asyncio.sleep(0.05)
        assert len(ingest.of("mcp.request")) == 1


async def test_events_leave_in_order(ingest, running, record) -> None:
    """A later call with its outcome never overtakes an earlier one without."""
    async with running(batch_max_events=7) as emitter:
        for _ in range(50):
            await record(emitter)
            decision = await record(emitter)
            emitter.outcome(decision.id, OUTCOME)
    sequences = [event["payload"]["sequence"] for event in ingest.received]
    assert sequences == list(range(1, 102))


async def test_batches_are_bounded_by_bytes(ingest, running, record) -> None:
    """A batch holds as many events as fit, one at least; order and accounts stay."""
    async with running(batch_max_bytes=1500) as emitter:
        for place in range(10):
            await record(emitter, path="/" + "p" * (10 if place % 2 else 1000))
        start = emitter.gateway_start
    assert ingest.requests >= 10
    ingest.check_accounts({start: 11})


async def test_a_token_is_read_anew(ingest, running, record, tmp_path, caplog) -> None:
    """It goes as a bearer, as the file has it now; without any, events wait."""
    token = tmp_path / "token"
    async with running(api_key="", token_file=token) as emitter:
        await soon(lambda: "ingest is away" in caplog.text)
        for rotated in ("first.token.a", "second.token.b"):
            token.write_text(f"{rotated}\n")
            seen = len(ingest.of("mcp.request"))
            await record(emitter)
            await soon(lambda seen=seen: len(ingest.of("mcp.request")) > seen)
            assert ingest.headers["Authorization"] == f"Bearer {rotated}"
            assert "x-api-key" not in ingest.headers
        start = emitter.gateway_start
    ingest.check_accounts({start: 3})
    assert not any(event.get("resent") for event in ingest.received)


async def test_key_and_format_go_with_each_batch(ingest, running) -> None:
    """NDJSON with x-api-key."""
    async with running():
        pass
    assert ingest.headers["x-api-key"] == "s3cret-key"
    assert ingest.headers["Content-Type"] == "application/x-ndjson"


async def test_start_and_heartbeat_tell_of_the_gateway(ingest, running, record) -> None:
    """gateway.start is the first event; heartbeats carry counts."""
    async with running(heartbeat_seconds=0.05, versions={"sentinel": "1.2"}) as emitter:
        await record(emitter)
        await soon(lambda: len(ingest.of("gateway.heartbeat")) >= 2)
        start = emitter.gateway_start
    assert (
        ingest.received[0]["payload"].items()
        >= {
            "sequence": 1,
            "gateway_start": start,
            "server": "billing",
            "versions": {"sentinel": "1.2"},
            "heartbeat_seconds": 0.05,
        }.items()
    )
    beat = ingest.of("gateway.heartbeat")[-1]
    assert beat["next_sequence"] == beat["sequence"] + 1
    assert beat["offered"] == beat["sequence"] - 1
    assert beat["dropped"] == 0


@pytest.mark.parametrize("behaviour", [500, 503, 429, 404, 200, 302, 401, 403, "stall", "die"])
async def test_outage_goes_through_the_spool(behaviour, ingest, running, record, log) -> None:
    """Nothing is lost, order holds, only what may have arrived is marked; the key is not logged."""
    log.set_level(logging.DEBUG)
    ingest.behaviour = behaviour
    bounds = {"request_timeout_seconds": 2.0} if behaviour == "stall" else {}
    async with running(**bounds) as emitter:
        for _ in range(20):
            await record(emitter)
        await soon(lambda: emitter.counts().spooled == 21)
        for _ in range(20):
            await record(emitter)
        await soon(lambda: emitter.counts().spooled == 41)
        assert emitter.counts().away or behaviour == "stall"
        assert adds_up(emitter.counts())
        ingest.behaviour = "accept"
        before = len(ingest.received)
        await soon(lambda: emitter.counts().sent == 41)
        await soon(lambda: emitter.counts().spooled == 0)
        counts, start = emitter.counts(), emitter.gateway_start
    assert adds_up(counts)
    assert counts.dropped == dict.fromkeys(CAUSES, 0)
    assert [event["payload"]["sequence"] for event in ingest.received[before:]] == list(
        range(1, 42)
    )
    ingest.check_accounts({start: 41})
    marked = [event for event in ingest.received[before:] if event.get("resent")]
    assert len(marked) == counts.resent
    if behaviour in (401, 403, 404, 429):
        assert marked == []
    assert "ingest is away" in log.text or behaviour == "stall"
    assert "s3cret-key" not in log.text


async def test_unreachable_ingest_marks_nothing(options, running, record) -> None:
    """A connection that was never made cannot have delivered."""
    async with running(ingest_url="http://127.0.0.1:1/events", stop_seconds=1) as emitter:
        await record(emitter)
        await soon(lambda: emitter.counts().spooled == 2)
        assert emitter.counts().away


async def test_stop_while_ingest_is_away_spools_for_the_next_start(ingest, running, record) -> None:
    """What is left goes to disk at once; the next start sends it, marked, and tells of no gap.

    It tells where the first one ended, too.
    """
    ingest.behaviour = 500
    async with running() as emitter:
        for _ in range(30):
            await record(emitter)
        first = emitter.gateway_start
    ingest.behaviour = "accept"
    async with running() as emitter:
        assert emitter.counts().recovered == 31
        second = emitter.gateway_start
        await soon(lambda: emitter.counts().sent == 32)
        assert adds_up(emitter.counts())
    ingest.check_accounts({first: 31, second: 1})
    assert ingest.of("audit.gap") == []
    told, again = ingest.of("gateway.start")
    assert "previous_gateway_start" not in told
    assert (again["previous_gateway_start"], again["previous_next_sequence"]) == (first, 32)
    assert [bool(event.get("resent")) for event in ingest.received] == [True] * 31 + [False]


async def test_stop_ends_a_stalled_request_under_its_deadline(ingest, running, record) -> None:
    """The batch under way lands in the spool, marked."""
    ingest.behaviour = "stall"
    async with running(request_timeout_seconds=FOREVER, stop_seconds=0.2) as emitter:
        await record(emitter)
        first = emitter.gateway_start
    ingest.behaviour = "accept"
    async with running() as emitter:
        second = emitter.gateway_start
        await soon(lambda: emitter.counts().sent == 3)
    ingest.check_accounts({first: 2, second: 1})


async def test_stop_gives_up_waiting_for_outcomes(ingest, running, record) -> None:
    """Draining takes no completion wait."""
    async with running(completion_wait_seconds=FOREVER) as emitter:
        for _ in range(5):
            await record(emitter)
    assert len(ingest.of("mcp.request")) == 5


@pytest.mark.parametrize(("away_first", "refusal"), [(False, 400), (True, 400), (True, 403)])
async def test_refused_event_is_found_and_told(
    away_first, refusal, ingest, running, record
) -> None:
    """All others arrive; the one is counted and becomes a gap, from memory and from the spool."""
    ingest.poison, ingest.refusal = b"/poison", refusal
    ingest.behaviour = 500 if away_first else "accept"
    async with running(heartbeat_seconds=0.2) as emitter:
        for place in range(40):
            await record(emitter, path="/poison" if place == 17 else "/mcp")
        if away_first:
            await soon(lambda: emitter.counts().spooled >= 41)
            ingest.behaviour = "accept"
        await soon(lambda: ingest.of("audit.gap"))
        assert emitter.counts().dropped[Cause.REFUSED] == 1
        start = emitter.gateway_start
        await soon(lambda: len(ingest.of("gateway.heartbeat")) >= 2)
    async with running():  # which has nothing to add
        pass
    [gap] = ingest.of("audit.gap")
    assert (gap["first"], gap["last"], gap["cause"]) == (19, 19, "refused")
    assert len(ingest.of("mcp.request")) == 39
    mine = [p for p in map(payload_of, ingest.received) if p["gateway_start"] == start]
    ingest.check_accounts({start: max(payload["sequence"] for payload in mine)})


async def test_refused_gap_does_not_spin(ingest, running, record) -> None:
    """An ingest that takes no gap is asked at heartbeats only, and told all once it does."""
    ingest.poison = b"o"  # stands in every event
    async with running(heartbeat_seconds=0.1) as emitter:
        for _ in range(4):
            await record(emitter)
        await soon(lambda: emitter.counts().dropped[Cause.REFUSED] >= 11)
        beats = (emitter.counts().offered - 5) // 2  # a heartbeat and a gap each
        assert ingest.requests <= 15 + 3 * (beats + 1)
        ingest.poison = b""
        await soon(lambda: ingest.of("audit.gap"))
        start = emitter.gateway_start
    ingest.check_accounts({start: max(e["payload"]["sequence"] for e in ingest.received)})


async def test_full_memory_and_spool_count_every_drop(ingest, running, record) -> None:
    """Offered = received + told as gaps, to the event; gaps claim nothing that was received."""
    ingest.behaviour = 503
    async with running(
        queue_max_events=100, batch_max_events=20, spool_max_bytes=16 * 4096
    ) as emitter:
        for place in range(1000):
            await record(emitter)
            if place % 50 == 0:
                await asyncio.sleep(0.01)
        await soon(lambda: emitter.counts().faults, "the spool is full")
        counts = emitter.counts()
        assert adds_up(counts)
        assert counts.dropped[Cause.QUEUE_FULL] > 500
        assert counts.pending <= 120
        assert counts.spool_bytes <= 16 * 4096
        ingest.behaviour = "accept"
        await soon(lambda: ingest.of("audit.gap"))
        await soon(lambda: not emitter.counts().pending and not emitter.counts().spooled)
        counts, start = emitter.counts(), emitter.gateway_start
    assert adds_up(counts)
    ingest.check_accounts({start: counts.offered})
    told = sum(gap["count"] for gap in ingest.of("audit.gap"))
    assert told == counts.dropped[Cause.QUEUE_FULL]
    assert len({event["event_id"] for event in ingest.received}) == counts.offered - told
    assert {gap["cause"] for gap in ingest.of("audit.gap")} == {"queue_full"}


async def test_event_that_is_no_json_is_told(ingest, running) -> None:
    """A bug elsewhere costs that event, with a gap, and no other."""
    async with running(heartbeat_seconds=0.05) as emitter:
        emitter.offer("mcp.request", {"path": "\ud800"})
        await soon(lambda: ingest.of("audit.gap"))
        assert emitter.counts().dropped[Cause.UNENCODABLE] == 1
    assert ingest.of("audit.gap")[0].items() >= {"first": 2, "cause": "unencodable"}.items()


async def test_damaged_files_are_counted_and_told(ingest, running, options) -> None:
    """A garbage mark does not keep the process from starting."""
    async with running() as emitter:
        first = emitter.gateway_start
    (options["spool_folder"] / "mark").write_bytes(b"garbage")
    async with running() as emitter:
        assert emitter.counts().faults == 1
    [gap] = ingest.of("audit.gap")
    assert gap["lost_gateway_start"] == first
    assert (gap["cause"], gap["count"]) == ("mark_lost", 0)


async def test_second_emitter_on_the_same_folder_does_not_start(running) -> None:
    """The start stops with the setting's name and the mend."""
    async with running():
        with pytest.raises(Invalid, match="SPOOL_DIR"):
            async with running():
                pass


async def test_record_answers_even_when_all_is_full(running, record, ingest) -> None:
    """Best effort: a full queue refuses no call."""
    ingest.behaviour = 503
    async with running(queue_max_events=1, batch_max_events=1, stop_seconds=0.1) as emitter:
        decisions = [await record(emitter) for _ in range(10)]
    assert all(decision.allowed and decision.id for decision in decisions)
    assert len({decision.id for decision in decisions}) == 10


def test_key_is_never_shown(options: dict[str, Any]) -> None:
    """The options' text hides it."""
    assert "s3cret-key" not in repr(EmitterOptions(**options))

"""A disk that takes nothing: durable denies, best effort drops and tells; both recover."""

import aiohttp
import pytest

from tests.chaos.decision_point import ALLOWED, DENIED, Answer, decision_point
from tests.tools.raw_http import exchange, post
from tests.tools.waiting import soon

FULL, EMPTY = 0, -1


@pytest.mark.parametrize("policy", ["allow-list", "observe"])
async def test_durable_denies_while_the_disk_is_full(policy: str) -> None:
    """Whatever would have been decided is an outage, in observe mode too; then it recovers."""
    async with (
        decision_point(policy, AUDIT_MODE="durable") as point,
        aiohttp.ClientSession() as session,
    ):
        await point.start()
        point.limit_files(FULL)
        for tool, method in ((ALLOWED, "tools/call"), (DENIED, "tools/call"), ("", "initialize")):
            answer = await point.call(session, tool, method)
            assert (answer.status, answer.reason) == (503, "audit_unavailable")
        response = exchange(point.envoy.port, post(headers="Content-Type: application/json\r\n"))
        assert response.status == 503  # what could not be read either
        assert response.json()["error"]["code"] == 5030
        assert response.values("retry-after") == ["5"]
        point.limit_files(EMPTY)

        async def is_allowed() -> bool:
            return (await point.call(session, ALLOWED)).status != 503

        await soon(is_allowed, "calls pass again", every=0.05)
        start, count = await point.stop()
        assert point.check_accounts({start: count}) == {start: 0}
        assert point.check_answers() == []
        refused = [p for p in point.ingest.of("mcp.request") if p["reason"] == "audit_unavailable"]
        assert len(refused) >= 4  # ingest was there: the trail tells of the outage
        assert {p["decision"] for p in refused} == {"deny"}
        assert point.log().count("the journal takes nothing") == 1


async def test_durable_denies_when_the_spool_is_at_its_bound() -> None:
    """Ingest away, spool and memory full: what cannot be kept is denied, and told as a gap."""
    bounds = {"SPOOL_MAX_BYTES": str(2**20), "QUEUE_MAX_EVENTS": "100"}
    async with decision_point(AUDIT_MODE="durable", **bounds) as point:
        await point.start()
        point.ingest.status = 503
        async with point.load(16):
            await soon(lambda: Answer(503, "audit_unavailable") in reasons(point.answers))
            point.ingest.status = 202
            before = point.counts[200]
            await soon(lambda: point.counts[200] > before + 100)
        await point.all_told()
        start, count = await point.stop()
        lost = point.check_accounts({start: count})
        assert lost[start] > 0
        assert point.check_answers() == []


async def test_besteffort_drops_and_tells_while_the_disk_is_full() -> None:
    """No call is refused; every event that finds no room lies in a gap, and no other."""
    async with decision_point(QUEUE_MAX_EVENTS="100") as point:
        await point.start()
        point.ingest.status = 503
        point.limit_files(FULL)
        async with point.load(16):
            await soon(lambda: point.counts[200] > 400)
            point.limit_files(EMPTY)
            point.ingest.status = 202
            before = len(point.ingest.events)
            await soon(lambda: len(point.ingest.events) > before + 200)
        assert Answer(503, "audit_unavailable") not in reasons(point.answers)
        await point.all_told()
        start, count = await point.stop()
        lost = point.check_accounts({start: count})
        gaps = point.ingest.of("audit.gap")
        assert {gap["cause"] for gap in gaps} == {"queue_full"}
        assert lost[start] == sum(gap["count"] for gap in gaps) > 0
        assert len(point.check_answers()) <= lost[start]


async def test_what_lies_in_the_spool_is_for_its_owner_alone() -> None:
    """Spool, journal and mark have mode 0600."""
    async with decision_point(AUDIT_MODE="durable") as point:
        await point.start()
        files = [path for path in (point.envoy.folder / "spool").iterdir() if path.is_file()]
        assert {path.name.split(".")[0] for path in files} == {"spool", "journal", "mark"}
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def reasons(answers: dict[int, Answer]) -> set[Answer]:
    return {Answer(answer.status, answer.reason) for answer in answers.values()}

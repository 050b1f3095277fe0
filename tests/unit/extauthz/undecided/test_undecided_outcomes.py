"""Lines that are outcomes of decided calls, over a crash."""

from pathlib import Path
from typing import Final

from extauthz.undecided import OpenCalls
from extauthz.undecided.lines import UndecidedRequest
from tests.tools.waiting import soon
from tests.unit.extauthz.undecided import test_undecided_tail as undecided
from tests.unit.extauthz.undecided.test_undecided_tail import (
    Calls,
    Ingest,
    assert_countable,
    following,
    write,
)

ingest, path = undecided.ingest, undecided.path  # fixtures
DECIDED: Final = "r-1"


class OneDecided(OpenCalls):
    """Knows of one decided call."""

    def settle(self, request: UndecidedRequest) -> bool:
        return request.asked.request_id == DECIDED


async def test_a_crash_numbers_nothing_anew(path: Path, ingest: Ingest) -> None:
    """Ingest has the batch, its position is lost, and nobody knows the decided call any more."""
    bookmark = path.parent / "undecided.position"
    ingest.status = 503
    write(path, 1, 2, 3)
    async with following(path, ingest, OneDecided(Calls(), 10)):
        await soon(lambda: ingest.asked)
        before = bookmark.read_bytes()
        ingest.status = 202
        await soon(lambda: len(ingest.events) == 2)
    bookmark.write_bytes(before)
    async with following(path, ingest):
        await soon(lambda: len(ingest.events) == 4)
        write(path, 4)
        await soon(lambda: len(ingest.events) == 5)
    assert [p["request_id"] for p in ingest.payloads()] == ["r-2", "r-3", "r-4"]
    assert_countable(ingest)

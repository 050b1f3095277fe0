"""What every EventLog must do, run against each adapter."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from backend.adapters.sqlite_log import SqliteLog
from backend.ports import Assignment, Consumer, EventLog, Message, Record

Open = Callable[[], Awaitable[EventLog]]


def sqlite(folder: Path) -> EventLog:
    return SqliteLog(folder / "log.db", clock=lambda: 1_000.0, retention_seconds=3600)


@pytest.fixture(params=[sqlite], ids=lambda adapter: adapter.__name__)
async def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the same log, as often as a test likes; a log that is open is closed first."""
    async with AsyncExitStack() as stack:

        async def open_again() -> EventLog:
            await stack.aclose()
            log: EventLog = request.param(tmp_path)
            await log.start()
            stack.push_async_callback(log.stop)
            return log

        yield open_again


class Owner:
    """An Ownership that remembers."""

    def __init__(self) -> None:
        self.assignments: list[Assignment] = []
        self.revocations = 0

    async def assigned(self, assignment: Assignment) -> None:
        self.assignments.append(assignment)

    async def revoked(self) -> None:
        self.revocations += 1


async def joined(log: EventLog, group: str = "g") -> tuple[Consumer, Owner]:
    consumer, owner = log.consumer(group), Owner()
    await consumer.start(owner)
    return consumer, owner


def messages(*values: str) -> list[Message]:
    return [Message(value.encode()) for value in values]


def values(records: list[Record] | object) -> list[str]:
    return [record.value.decode() for record in records]  # type: ignore[attr-defined]


async def test_records_come_out_as_they_went_in(open_log: Open) -> None:
    """Values and headers are untouched, and the order is that of the appends."""
    log = await open_log()
    await log.append([Message(b"\x00\xff", headers=(("traceparent", b"00-\xe9"),))])
    await log.append(messages("b", "c"))
    consumer, _ = await joined(log)
    records = await consumer.fetch(10, 0)
    assert [r.value for r in records] == [b"\x00\xff", b"b", b"c"]
    assert records[0].headers == (("traceparent", b"00-\xe9"),)
    offsets = [r.position.offset for r in records]
    assert offsets == sorted(set(offsets))
    await consumer.stop()


async def test_a_fetch_is_bounded_and_goes_on(open_log: Open) -> None:
    """`most` bounds a fetch, and the next one begins where it ended."""
    log = await open_log()
    await log.append(messages("a", "b", "c"))
    consumer, _ = await joined(log)
    assert values(await consumer.fetch(2, 0)) == ["a", "b"]
    assert values(await consumer.fetch(2, 0)) == ["c"]
    assert values(await consumer.fetch(2, 0)) == []
    await consumer.stop()


async def test_what_was_not_committed_comes_again(open_log: Open) -> None:
    """After a restart the consumer begins at the committed offset, and is told which."""
    log = await open_log()
    await log.append(messages("a", "b", "c"))
    consumer, owner = await joined(log)
    assert owner.assignments[0].committed == 0
    first, *_ = await consumer.fetch(10, 0)
    await consumer.commit([first.position])
    await consumer.stop()

    log = await open_log()
    consumer, again = await joined(log)
    assert again.assignments[0].committed == first.position.offset + 1
    assert again.assignments[0].topic_id == owner.assignments[0].topic_id
    records = await consumer.fetch(10, 0)
    assert values(records) == ["b", "c"]
    assert records[0].position.offset >= again.assignments[0].committed
    await consumer.stop()


async def test_groups_read_apart(open_log: Open) -> None:
    """What one group commits is still there for another."""
    log = await open_log()
    await log.append(messages("a"))
    for group in ("g", "h"):
        consumer, _ = await joined(log, group)
        records = await consumer.fetch(10, 0)
        assert values(records) == ["a"]
        await consumer.commit([records[-1].position])
        await consumer.stop()


async def test_lag_counts_what_is_not_committed(open_log: Open) -> None:
    """Fetching does not lessen the lag, committing does."""
    log = await open_log()
    consumer, _ = await joined(log)
    assert await consumer.lag() == 0
    await log.append(messages("a", "b", "c"))
    records = await consumer.fetch(10, 0)
    assert await consumer.lag() == 3
    await consumer.commit([records[1].position])
    assert await consumer.lag() == 1
    await consumer.stop()


async def test_a_commit_never_goes_back(open_log: Open) -> None:
    """A commit of an earlier position changes nothing."""
    log = await open_log()
    await log.append(messages("a", "b"))
    consumer, _ = await joined(log)
    records = await consumer.fetch(10, 0)
    await consumer.commit([records[1].position])
    await consumer.commit([records[0].position])
    assert await consumer.lag() == 0
    await consumer.stop()
    consumer, _ = await joined(log)
    assert values(await consumer.fetch(10, 0)) == []
    await consumer.stop()


async def test_a_waiting_fetch_hears_an_append(open_log: Open) -> None:
    """A fetch that found nothing returns once something is appended."""
    log = await open_log()
    consumer, _ = await joined(log)
    waiting = asyncio.create_task(consumer.fetch(10, 60))
    await asyncio.sleep(0)
    await log.append(messages("a"))
    assert values(await waiting) == ["a"]
    await consumer.stop()


async def test_appends_keep_their_order(open_log: Open) -> None:
    """Appends that run at once become durable in the order of the calls."""
    log = await open_log()
    wanted = [f"{n}" for n in range(50)]
    await asyncio.gather(*(log.append(messages(value)) for value in wanted))
    consumer, _ = await joined(log)
    assert values(await consumer.fetch(100, 0)) == wanted
    await consumer.stop()


async def test_stopping_revokes(open_log: Open) -> None:
    """The owner hears that its partition goes, once."""
    log = await open_log()
    consumer, owner = await joined(log)
    await consumer.stop()
    assert owner.revocations == 1

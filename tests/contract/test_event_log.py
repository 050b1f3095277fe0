"""What every EventLog must do, run against each adapter."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from backend.ports.event_log import (
    RESENT_HEADER,
    Assignment,
    Consumer,
    DeadLetter,
    EventLog,
    Message,
    Position,
    Record,
    SetAside,
)
from extauthz.core.errors import NotFound
from tests.contract.event_logs import KafkaPlace, Place, SqlitePlace
from tests.tools.waiting import SECONDS

Open = Callable[[], Awaitable[EventLog]]


@pytest.fixture(params=["sqlite", "kafka"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return SqlitePlace(tmp_path)
    return KafkaPlace(request.getfixturevalue("broker"))


@pytest.fixture
async def open_log(place: Place) -> AsyncIterator[Open]:
    """Opens the same log, as often as a test likes; a log that is open is closed first."""
    async with AsyncExitStack() as stack:

        async def open_again() -> EventLog:
            await stack.aclose()
            log = place.log()
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


async def take(consumer: Consumer, count: int) -> list[Record]:
    """The next `count` records."""
    taken: list[Record] = []
    async with asyncio.timeout(SECONDS):
        while len(taken) < count:
            taken += await consumer.fetch(count - len(taken), SECONDS)
    return taken


def messages(*values: str) -> list[Message]:
    return [Message(value.encode()) for value in values]


def values(records: Sequence[Record]) -> list[str]:
    return [record.value.decode() for record in records]


async def test_records_come_out_as_they_went_in(open_log: Open) -> None:
    """Values and headers are untouched, and the order is that of the appends."""
    log = await open_log()
    await log.append([Message(b"\x00\xff", headers=(("traceparent", b"00-\xe9"),))])
    await log.append(messages("b", "c"))
    consumer, _ = await joined(log)
    records = await take(consumer, 3)
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
    assert values(await consumer.fetch(2, SECONDS)) == ["a", "b"]
    assert values(await consumer.fetch(2, SECONDS)) == ["c"]
    assert values(await consumer.fetch(2, 0)) == []
    await consumer.stop()


async def test_what_was_not_committed_comes_again(open_log: Open) -> None:
    """After a restart the consumer begins at the committed offset, and is told which."""
    log = await open_log()
    await log.append(messages("a", "b", "c"))
    consumer, owner = await joined(log)
    assert owner.assignments[0].committed == 0
    first, *_ = await take(consumer, 3)
    await consumer.commit([first.position])
    await consumer.stop()

    log = await open_log()
    consumer, again = await joined(log)
    assert again.assignments[0].committed == first.position.offset + 1
    assert again.assignments[0].topic_id == owner.assignments[0].topic_id
    records = await take(consumer, 2)
    assert values(records) == ["b", "c"]
    assert records[0].position.offset >= again.assignments[0].committed
    await consumer.stop()


async def test_groups_read_apart(open_log: Open) -> None:
    """What one group commits is still there for another."""
    log = await open_log()
    await log.append(messages("a"))
    for group in ("g", "h"):
        consumer, _ = await joined(log, group)
        records = await take(consumer, 1)
        assert values(records) == ["a"]
        await consumer.commit([records[-1].position])
        await consumer.stop()


async def test_lag_counts_what_is_not_committed(open_log: Open) -> None:
    """Fetching does not lessen the lag, committing does."""
    log = await open_log()
    consumer, _ = await joined(log)
    assert await consumer.lag() == 0
    await log.append(messages("a", "b", "c"))
    records = await take(consumer, 3)
    assert await consumer.lag() == 3
    await consumer.commit([records[1].position])
    assert await consumer.lag() == 1
    await consumer.stop()


async def test_to_confirm_commits_nothing(open_log: Open) -> None:
    """A member that asks whether its partitions are still its own is told for how long."""
    log = await open_log()
    await log.append(messages("a", "b", "c"))
    consumer, _ = await joined(log)
    assert await consumer.confirm() > 0
    first, *_ = await take(consumer, 3)
    assert await consumer.confirm() > 0
    await consumer.commit([first.position])
    assert await consumer.confirm() > 0
    await consumer.stop()

    log = await open_log()
    consumer, _ = await joined(log)
    assert values(await take(consumer, 2)) == ["b", "c"]
    await consumer.stop()


async def test_a_commit_never_goes_back(open_log: Open) -> None:
    """A commit of an earlier position changes nothing."""
    log = await open_log()
    await log.append(messages("a", "b"))
    consumer, _ = await joined(log)
    records = await take(consumer, 2)
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
    assert values(await take(consumer, len(wanted))) == wanted
    await consumer.stop()


async def test_messages_of_a_key_keep_their_order(open_log: Open, place: Place) -> None:
    """Over many appends at once, large and small, however many partitions there are."""
    place.divide(3)
    log = await open_log()
    wanted = {f"gateway-{n}".encode(): [f"{n}-{i}" for i in range(60)] for n in range(5)}
    appends = [
        [Message(value.encode(), key) for key, its in wanted.items() for value in its[low:high]]
        for low, high in ((0, 30), (30, 32), (32, 33), (33, 60))
    ]
    await asyncio.gather(*(log.append(each) for each in appends))
    consumer, _ = await joined(log)
    records = await take(consumer, sum(map(len, wanted.values())))
    found: dict[bytes | None, list[str]] = {key: [] for key in wanted}
    for record in records:
        found[record.key].append(record.value.decode())
    assert found == wanted
    await consumer.stop()


async def test_stopping_revokes(open_log: Open) -> None:
    """The owner hears that its partition goes, once."""
    log = await open_log()
    consumer, owner = await joined(log)
    await consumer.stop()
    assert owner.revocations == 1


async def test_a_new_group_reads_from_the_first_record(open_log: Open) -> None:
    """However far others have read: a replay sees all that the log holds."""
    log = await open_log()
    await log.append(messages("a", "b"))
    consumer, _ = await joined(log)
    await consumer.commit([(await take(consumer, 2))[1].position])
    await consumer.stop()
    replay, owner = await joined(log, "replay-1")
    assert [each.committed for each in owner.assignments] == [0]
    assert values(await take(replay, 2)) == ["a", "b"]
    await replay.stop()


async def test_a_new_log_is_told_from_the_old_one(open_log: Open, place: Place) -> None:
    """A log that was deleted and made again has another topic_id, and is read from its start."""
    topics = []
    for value in ("old", "new"):
        log = await open_log()
        await log.append(messages(value))
        consumer, owner = await joined(log)
        records = await take(consumer, 1)
        assert values(records) == [value]
        assert records[0].position.topic_id == owner.assignments[0].topic_id
        topics.append(records[0].position.topic_id)
        await consumer.commit([records[0].position])
        await consumer.stop()
        await log.stop()
        await place.remove()
    assert topics[0] != topics[1]


def letter(record: Record, why: str = "not JSON") -> DeadLetter:
    return DeadLetter(record, why)


async def read(log: EventLog, *values_and_keys: str) -> list[Record]:
    """Append messages with keys and headers, and read them back."""
    await log.append(
        [Message(v.encode(), v.upper().encode(), (("tracestate", b"x"),)) for v in values_and_keys]
    )
    consumer, _ = await joined(log)
    records = await take(consumer, len(values_and_keys))
    await consumer.commit([records[-1].position])
    await consumer.stop()
    return records


def positions(letters: Sequence[SetAside]) -> list[Position]:
    return [each.letter.record.position for each in letters]


async def test_dead_letters_are_kept_whole(open_log: Open) -> None:
    """Once each, in order, over a restart, with reason, position, time and the original bytes."""
    log = await open_log()
    records = await read(log, "a", "b", "c")
    await log.dead_letter([letter(records[0]), letter(records[1], "no `event_id`")])
    await log.dead_letter([letter(records[0])])
    await log.dead_letter([letter(records[2])])
    before = await log.dead_letters(10)
    assert positions(before) == [record.position for record in records]
    log = await open_log()
    kept = await log.dead_letters(10)
    assert kept == before
    assert [each.letter.record for each in kept] == records
    assert [each.letter.why for each in kept] == ["not JSON", "no `event_id`", "not JSON"]
    assert all(each.at.tzinfo for each in kept)
    assert await log.dead_letter_at(records[1].position) == kept[1]


async def test_dead_letters_come_in_pages(open_log: Open) -> None:
    """`limit` bounds a page, and `after` goes on behind a letter."""
    log = await open_log()
    records = await read(log, "a", "b", "c")
    await log.dead_letter([letter(record) for record in records])
    first = await log.dead_letters(2)
    assert positions(first) == [record.position for record in records[:2]]
    rest = await log.dead_letters(2, after=records[1].position)
    assert positions(rest) == [records[2].position]


async def test_a_retried_letter_is_appended_again(open_log: Open) -> None:
    """Same bytes, key and headers, marked as resent once however often; the letter is gone."""
    log = await open_log()
    (record,) = await read(log, "a")
    for _ in range(2):
        await log.dead_letter([letter(record)])
        await log.retry(record.position)
        assert await log.dead_letters(10) == []
        consumer, _ = await joined(log)
        (again,) = await take(consumer, 1)
        await consumer.commit([again.position])
        await consumer.stop()
        assert (again.value, again.key) == (b"a", b"A")
        assert again.headers == (("tracestate", b"x"), (RESENT_HEADER, b"1"))
        record = again


async def test_a_dropped_letter_is_gone(open_log: Open) -> None:
    """For good; naming it again finds nothing."""
    log = await open_log()
    first, second = await read(log, "a", "b")
    await log.dead_letter([letter(first), letter(second)])
    await log.drop(first.position)
    log = await open_log()
    assert positions(await log.dead_letters(10)) == [second.position]
    for work in (log.drop, log.retry, log.dead_letter_at):
        with pytest.raises(NotFound, match=f"`{first.position}`"):
            await work(first.position)

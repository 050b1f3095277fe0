"""What the log on Kafka does beyond the contract: several members, brokers that go, limits."""

import asyncio
import os
import re
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import pytest

from backend.adapters.kafka_log import KafkaLog
from backend.ports.event_log import Assignment, Consumer, EventLog, Message, Position, Record
from extauthz.core.errors import Busy, Conflict, Invalid, Retryable
from tests.contract.event_logs import KafkaPlace
from tests.tools.kafka_broker import KafkaBroker
from tests.tools.waiting import SECONDS, soon


@asynccontextmanager
async def opened(place: KafkaPlace) -> AsyncIterator[EventLog]:
    log = place.log()
    await log.start()
    try:
        yield log
    finally:
        await log.stop()


class Member:
    """Reads and commits in small batches until it is stopped; its batch ends before it goes.

    Attributes:
        done: what it committed.
        owned: the partitions it has now.
    """

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.done: list[Position] = []
        self.owned: set[int] = set()
        self._batch: list[Record] = []
        self._committing = asyncio.Lock()
        self._stopping = asyncio.Event()

    async def assigned(self, assignment: Assignment) -> None:
        self.owned.add(assignment.partition)

    async def revoked(self) -> None:
        async with self._committing:
            self.owned.clear()
            self._batch.clear()

    async def run(self) -> None:
        await self.consumer.start(self)
        while not self._stopping.is_set():
            self._batch += await self.consumer.fetch(7, 0.2)
            async with self._committing:
                batch, self._batch = self._batch, []
                with suppress(Conflict):  # they come again, to whoever has them now
                    await self.consumer.commit([record.position for record in batch])
                    self.done += [record.position for record in batch]
        await self.consumer.stop()

    def stop(self) -> None:
        self._stopping.set()


async def test_members_share_partitions(broker: KafkaBroker) -> None:
    """Members come and go while records flow: each is committed once, by one of them."""
    place = KafkaPlace(broker, partitions=4)
    async with opened(place) as log, opened(place) as other, asyncio.TaskGroup() as tasks:
        first, second = Member(log.consumer("g")), Member(other.consumer("g"))
        first_runs = tasks.create_task(first.run())
        appended = 0

        async def append(count: int) -> None:
            nonlocal appended
            for _ in range(count):
                await log.append([Message(b"%d" % n, b"%d" % n) for n in range(10)])
                appended += 10

        def done() -> int:
            return len(first.done) + len(second.done)

        await append(10)
        await soon(lambda: first.done)
        tasks.create_task(second.run())
        await append(10)
        await soon(lambda: len(first.owned) == len(second.owned) == 2)
        assert not first.owned & second.owned
        await append(10)
        await soon(lambda: second.done)
        first.stop()
        await append(10)
        await first_runs
        await soon(lambda: len(second.owned) == 4 and done() >= appended)
        second.stop()
    done_by_all = first.done + second.done
    assert len(set(done_by_all)) == len(done_by_all) == appended


async def test_a_commit_after_the_partitions_went_is_a_conflict(broker: KafkaBroker) -> None:
    """Whoever has them now reads the records again."""
    place = KafkaPlace(broker)
    async with opened(place) as log:
        await log.append([Message(b"a")])
        member = Member(log.consumer("g"))
        await member.consumer.start(member)
        (record,) = await member.consumer.fetch(1, SECONDS)
        await member.consumer.stop()
        with pytest.raises(Conflict):
            await member.consumer.commit([record.position])


async def test_a_member_that_stood_still_learns_that_its_partitions_went(
    broker: KafkaBroker,
) -> None:
    """It cannot confirm that they are its own once another has them."""
    place = KafkaPlace(broker, session_seconds=4.0)
    is_still, goes_on = threading.Event(), threading.Event()

    async def stand_still() -> None:
        async with opened(place) as log:
            member = Member(log.consumer("g"))
            await member.consumer.start(member)
            await member.consumer.fetch(1, SECONDS)
            assert await member.consumer.confirm() == 4.0
            is_still.set()
            goes_on.wait(SECONDS)  # its event loop, heartbeats included
            with pytest.raises(Conflict):
                await member.consumer.confirm()
            await member.consumer.stop()

    async with opened(place) as log:
        await log.append([Message(b"a")])
        still = asyncio.create_task(asyncio.to_thread(asyncio.run, stand_still()))
        await soon(is_still.is_set)
        other = Member(log.consumer("g"))
        await other.consumer.start(other)
        await soon(lambda: other.owned)
        goes_on.set()
        await still
        await other.consumer.stop()


async def test_a_broker_that_goes_and_comes_back(broker: KafkaBroker) -> None:
    """Away means Retryable, in bounded time; afterwards all goes on, with nothing lost.

    A member and a log can be stopped meanwhile; what waits in that log is given up.
    """
    place, left = KafkaPlace(broker, timeout_seconds=4.0), KafkaPlace(broker, timeout_seconds=3.0)
    async with opened(place) as log, opened(left) as left_log:
        member, leaving = Member(log.consumer("away")), Member(left_log.consumer("leaving"))
        await member.consumer.start(member)
        await leaving.consumer.start(leaving)
        await log.append([Message(b"before")])
        assert [r.value for r in await member.consumer.fetch(9, SECONDS)] == [b"before"]
        broker.kill()
        try:
            async with asyncio.timeout(SECONDS):
                for work in (
                    lambda: log.append([Message(b"meanwhile")]),
                    lambda: log.append([Message(b"refused at once")]),
                    log.ping,
                    member.consumer.lag,
                    lambda: log.dead_letters(1),
                    place.log().start,
                ):
                    with pytest.raises(Retryable):
                        await work()
                assert await member.consumer.fetch(9, 0.1) == []
                with pytest.raises(Retryable):
                    await left_log.append([Message(b"given up")])
                await leaving.consumer.stop()
                await left_log.stop()
        finally:
            await asyncio.to_thread(broker.start)
        await until_it_works(log, b"after")
        values: set[bytes] = set()
        async with asyncio.timeout(SECONDS):
            while not values >= {b"meanwhile", b"after"}:
                with suppress(Retryable):
                    values |= {r.value for r in await member.consumer.fetch(9, 1.0)}
        assert b"refused at once" not in values
        await log.ping()
        await member.consumer.stop()


async def test_records_that_were_deleted_before_they_were_read(broker: KafkaBroker) -> None:
    """The owner hears of the partition again, and reading goes on at the first that is left."""
    place = KafkaPlace(broker)
    async with opened(place) as log:
        member = Told(log.consumer("g"))
        await member.consumer.start(member)
        await log.append([Message(b"%d" % n) for n in range(10)])
        (first,) = await member.consumer.fetch(1, SECONDS)
        await member.consumer.commit([first.position])
        await member.consumer.stop()
        await place.delete_before(7)
        await member.consumer.start(member)
        (left,) = await member.consumer.fetch(1, SECONDS)
        assert left.value == b"7"
        assert [each.committed for each in member.told] == [0, 0]
        await place.delete_before(10)
        await log.append([Message(b"new")])
        taken = [left]
        async with asyncio.timeout(SECONDS):
            while taken[-1].value != b"new":
                taken += await member.consumer.fetch(1, SECONDS)
        await member.consumer.stop()


async def test_a_topic_that_is_made_again_meanwhile(broker: KafkaBroker) -> None:
    """Its records have the new topic's id, and none of them is skipped."""
    place = KafkaPlace(broker)
    async with opened(place) as log:
        member = Told(log.consumer("g"))
        await member.consumer.start(member)
        await log.append([Message(b"old")] * 3)
        old = (await member.consumer.fetch(1, SECONDS))[0].position
        await member.consumer.commit([old])
        await place.remove()
        async with opened(place) as again:
            await again.append([Message(b"new")])
            async with asyncio.timeout(SECONDS):
                taken: list[Record] = []
                while not taken or taken[-1].value != b"new":
                    taken += await member.consumer.fetch(1, 1.0)
            assert taken[-1].position.topic_id != old.topic_id
            assert member.told[-1] == Assignment(taken[-1].position.topic_id, 0, 0)
            await member.consumer.stop()


class Told(Member):
    """Remembers what it was told."""

    def __init__(self, consumer: Consumer) -> None:
        super().__init__(consumer)
        self.told: list[Assignment] = []

    async def assigned(self, assignment: Assignment) -> None:
        self.told.append(assignment)


class Waiting(Member):
    """Cannot take partitions: its store is away."""

    def __init__(self, consumer: Consumer) -> None:
        super().__init__(consumer)
        self.asked, self.revocations = asyncio.Event(), 0

    async def assigned(self, assignment: Assignment) -> None:
        self.asked.set()
        await asyncio.Event().wait()

    async def revoked(self) -> None:
        self.revocations += 1


async def test_a_member_that_waits_for_its_store_holds_up_no_other(broker: KafkaBroker) -> None:
    """What it was about to take goes to whoever joins, and it hears of it."""
    place = KafkaPlace(broker)
    async with opened(place) as log, opened(place) as other:
        stuck, quick = Waiting(log.consumer("g")), Member(other.consumer("g"))
        await log.append([Message(b"a")])
        starting = asyncio.create_task(stuck.consumer.start(stuck))
        await stuck.asked.wait()
        second = asyncio.create_task(quick.consumer.start(quick))
        await soon(lambda: stuck.revocations)
        starting.cancel()
        await asyncio.wait([starting])
        await stuck.consumer.stop()
        async with asyncio.timeout(SECONDS):
            await second
            assert [r.value for r in await quick.consumer.fetch(1, SECONDS)] == [b"a"]
            await quick.consumer.stop()


async def until_it_works(log: EventLog, value: bytes) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            with suppress(Retryable):
                await log.append([Message(value)])
                return
            await asyncio.sleep(0.1)


async def test_what_waits_is_bounded(broker: KafkaBroker) -> None:
    """Beyond `max_waiting_bytes` an append is told that the log is busy; others are not hurt."""
    log = KafkaLog(KafkaPlace(broker).settings, max_waiting_bytes=1000)
    await log.start()
    appends = (log.append([Message(b"x" * 600)]) for _ in range(3))
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    assert [type(each) for each in outcomes] == [type(None), Busy, Busy]
    await log.append([Message(b"x" * 2000)])  # one alone always may
    await log.stop()


async def test_the_largest_event_passes(broker: KafkaBroker) -> None:
    """1 MiB and its headers go through; what is larger than the topic takes is refused."""
    place = KafkaPlace(broker)
    async with opened(place) as log:
        large = Message(b"x" * ((1 << 20) + 1000), b"k", (("h", b"v"),))
        await log.append([large, *[Message(b"y", b"k")] * 30])
        with pytest.raises(Invalid):
            await log.append([Message(b"x" * (2 << 20))])
        member = Member(log.consumer("g"))
        await member.consumer.start(member)
        taken: list[Record] = []
        async with asyncio.timeout(SECONDS):
            while len(taken) < 31:
                taken += await member.consumer.fetch(100, SECONDS)
        assert taken[0].value == large.value
        await member.consumer.stop()


async def test_a_refused_event_harms_no_other(broker: KafkaBroker) -> None:
    """What the topic does not take is refused by itself; the next appends succeed."""
    place = KafkaPlace(broker)
    async with opened(place) as log:
        await place.take_at_most(2000)
        large = Message(os.urandom(5000))  # cannot be compressed

        async def is_refused() -> bool:
            with suppress(Invalid):
                await log.append([large])
                return False
            return True

        await soon(is_refused, "the broker counts what its topic was told")
        await log.append([Message(b"small")])
        with pytest.raises(Invalid, match=r"max\.message\.bytes"):
            await log.append([large])
        await log.append([Message(b"small")])


async def test_an_append_that_is_cancelled_holds_up_no_other(broker: KafkaBroker) -> None:
    """A caller that goes away leaves its events on their way; the room they take is freed."""
    log = KafkaLog(KafkaPlace(broker).settings, max_waiting_bytes=1000)
    await log.start()
    for _ in range(3):
        leaving = asyncio.create_task(log.append([Message(b"x" * 900)]))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        async with asyncio.timeout(SECONDS):
            while True:
                with suppress(Busy):
                    await log.append([Message(b"y" * 200)])
                    break
                await asyncio.sleep(0.01)
    await log.stop()


async def test_messages_without_a_key_are_spread(broker: KafkaBroker) -> None:
    """Over all partitions."""
    place = KafkaPlace(broker, partitions=3)
    async with opened(place) as log:
        for n in range(6):
            await log.append([Message(b"%d" % n)])
        member = Member(log.consumer("g"))
        await member.consumer.start(member)
        taken: list[Record] = []
        async with asyncio.timeout(SECONDS):
            while len(taken) < 6:
                taken += await member.consumer.fetch(100, SECONDS)
        assert {record.position.partition for record in taken} == {0, 1, 2}
        await member.consumer.stop()


@pytest.mark.parametrize(
    ("change", "name", "mend"),
    [
        ({"partitions": 5}, "KAFKA_PARTITIONS", "add partitions"),
        ({"topic": "never-made", "replication": 2}, "KAFKA_TOPIC", "KAFKA_REPLICATION"),
    ],
)
async def test_a_topic_that_cannot_be_used(
    broker: KafkaBroker, change: dict[str, object], name: str, mend: str
) -> None:
    """The start says what is wrong with it, and the mend."""
    place = KafkaPlace(broker)
    async with opened(place):
        pass
    place.settings = replace(place.settings, **change)
    with pytest.raises(Invalid) as raised:
        await place.log().start()
    assert raised.value.field == name
    assert mend in str(raised.value)


async def test_a_compacted_topic_is_refused(broker: KafkaBroker) -> None:
    """Of each gateway one event would stay."""
    place = KafkaPlace(broker)
    async with opened(place):
        pass
    await place.configure({"cleanup.policy": "compact"})

    async def refusal() -> str:
        try:
            async with opened(place):
                return ""  # the broker has not heard of it yet
        except Invalid as error:
            return str(error)

    assert re.search(r"KAFKA_TOPIC: .*is compacted", await soon(refusal, "a refusal"))


async def test_compressed_records_are_read_by_all(broker: KafkaBroker) -> None:
    """lz4 and zstd change what is written, not what is read."""
    place = KafkaPlace(broker)
    values = []
    async with AsyncExitStack() as stack:
        for compression in ("none", "lz4", "zstd"):
            place.settings = replace(place.settings, compression=compression)
            log = await stack.enter_async_context(opened(place))
            await log.append([Message(compression.encode() * 50)] * 20)
        member = Member(log.consumer("g"))
        await member.consumer.start(member)
        async with asyncio.timeout(SECONDS):
            while len(values) < 60:
                values += [r.value for r in await member.consumer.fetch(100, SECONDS)]
        await member.consumer.stop()
    assert values[::20] == [b"none" * 50, b"lz4" * 50, b"zstd" * 50]

"""The processor between a real log and a real store: exactly once, whatever fails."""

import asyncio
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import stamina
from prometheus_client import CollectorRegistry

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.adapters.sqlite_log import SqliteLog
from backend.metrics import ProcessorMetrics, new_registry
from backend.ports.event_log import RESENT_HEADER, Consumer, EventLog, Message, Position, Record
from backend.ports.event_store import EventStore, StoredEvent
from backend.processor.batch import Batcher
from backend.processor.poison import DeadLetterLimit
from backend.processor.processor import Processor
from backend.queries import EventFilter
from extauthz.core.errors import Conflict, Invalid, Retryable
from tests.tools.event_ids import id_of, name_of
from tests.tools.waiting import soon

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()


def envelope(name: str, **members: Any) -> bytes:
    return orjson.dumps(
        {
            "event_id": id_of(name),
            "timestamp": "2026-11-22T12:00:00Z",
            "source": "s",
            "event_type": "mcp.request",
            "payload": {},
        }
        | members
    )


def processor(
    log: EventLog, store: EventStore, registry: CollectorRegistry, most_letters: int = 10
) -> Processor:
    return Processor(
        log=log,
        store=store,
        group="g",
        new_batch=lambda: Batcher(max_events=3, max_bytes=1 << 20, flush_seconds=0.01),
        metrics=ProcessorMetrics(registry),
        limit=DeadLetterLimit(most=most_letters, window_seconds=600),
        empties_log=not log.is_shared,
        monotonic=time.monotonic,
        clock=lambda: NOON,
    )


async def drained(log: EventLog, store: EventStore) -> CollectorRegistry:
    """Run a processor that is told to stop at once: it finishes what lies in the log."""
    registry, stop = new_registry(), asyncio.Event()
    stop.set()
    await processor(log, store, registry).run(stop, lambda: None)
    return registry


def ids(store: EventStore) -> list[str]:
    return sorted(name_of(event.event_id) for event in store.page(EventFilter(), 9999).events)


async def until_stored(store: EventStore, name: str) -> None:
    async def is_stored() -> bool:
        return name in await asyncio.to_thread(ids, store)

    await soon(is_stored, f"{name} is stored")


def count(registry: CollectorRegistry, result: str) -> float:
    return registry.get_sample_value("processor_events_total", {"result": result}) or 0


def dead(folder: Path) -> list[tuple[bytes, str]]:
    with sqlite3.connect(folder / "log.db") as reader:
        return reader.execute("SELECT value, why FROM dead_letters ORDER BY offset").fetchall()


async def test_the_log_is_drained_on_stop(log: SqliteLog, store: ClickHouseStore) -> None:
    """Everything that lies in the log at the stop is stored, over several batches."""
    names = [f"e{n}" for n in range(8)]
    await log.append([Message(envelope(name)) for name in names])
    await drained(log, store)
    assert ids(store) == names


async def test_it_runs_until_told(log: SqliteLog, store: ClickHouseStore) -> None:
    """A running processor stores what comes, and can be run again after its stop."""
    registry = new_registry()
    one = processor(log, store, registry)
    for name in ("a", "b"):
        stop, ready = asyncio.Event(), asyncio.Event()
        running = asyncio.create_task(one.run(stop, ready.set))
        await ready.wait()
        await one.ping()
        await log.append([Message(envelope(name))])
        await until_stored(store, name)
        stop.set()
        await running
        with pytest.raises(Retryable):
            await one.ping()
    assert ids(store) == ["a", "b"]


async def test_what_is_present_is_skipped(log: SqliteLog, store: ClickHouseStore) -> None:
    """A kill between insert and commit: the records come again and are not stored twice."""
    await log.append([Message(envelope(f"e{n}")) for n in range(4)])
    await drained(log, store)
    with sqlite3.connect(log.path) as forget:
        forget.execute("UPDATE groups SET next_offset = 2")
    await log.append([Message(envelope("new"))])
    registry = await drained(log, store)
    assert ids(store) == ["e0", "e1", "e2", "e3", "new"]
    assert (count(registry, "present"), count(registry, "stored")) == (3, 1)


async def test_resent_events_are_known_by_id(log: SqliteLog, store: ClickHouseStore) -> None:
    """A marked copy of what is stored, or stands in the same batch, is dropped."""
    await log.append([Message(envelope("a"))])
    await drained(log, store)
    copies = [envelope("a", resent=True), envelope("b", resent=True), envelope("b", resent=True)]
    await log.append([Message(copy) for copy in copies])
    registry = await drained(log, store)
    assert ids(store) == ["a", "b"]
    assert count(registry, "resent") == 2


async def test_a_copy_may_come_first(log: SqliteLog, store: ClickHouseStore) -> None:
    """Within a batch the unmarked first may follow its marked copy."""
    await log.append([Message(envelope("a", resent=True)), Message(envelope("a"))])
    await drained(log, store)
    assert ids(store) == ["a"]


async def test_the_header_marks_too(log: SqliteLog, store: ClickHouseStore) -> None:
    """A record that the log itself sends again is looked up as any copy."""
    await log.append([Message(envelope("a"))])
    await drained(log, store)
    await log.append([Message(envelope("a"), headers=((RESENT_HEADER, b"1"),))])
    await drained(log, store)
    assert ids(store) == ["a"]


async def test_a_late_original_is_dropped(log: SqliteLog, store: ClickHouseStore) -> None:
    """Unmarked, in a later batch than its marked copy, it is told by what is remembered."""
    copies = [Message(envelope(name, resent=True)) for name in ("a", "b", "c")]
    originals = [Message(envelope(name)) for name in ("d", "e", "a")]
    await log.append(copies)
    await log.append(originals)
    registry = await drained(log, store)
    assert ids(store) == ["a", "b", "c", "d", "e"]
    assert count(registry, "resent") == 1


async def test_the_store_remembers_copies_over_a_restart(
    log: SqliteLog, store: ClickHouseStore
) -> None:
    """A new owner of the partition learns which copies are stored, and drops their originals."""
    await log.append([Message(envelope("a", resent=True))])
    await drained(log, store)
    await log.append([Message(envelope("a")), Message(envelope("b"))])
    await drained(log, store)
    assert ids(store) == ["a", "b"]


@pytest.mark.usefixtures("no_waiting")
async def test_a_copy_in_the_part_that_was_stored(log: SqliteLog, store: ClickHouseStore) -> None:
    """The insert failed after the marked copy was in: its original is dropped by the next try."""
    await log.append([Message(envelope("a", resent=True)), Message(envelope("a"))])
    failing: Any = FailingStore(store, [1])
    await drained(log, failing)
    assert ids(store) == ["a"]


@pytest.mark.parametrize("is_first", [True, False])
async def test_nobody_hides_an_event_behind_its_id(
    log: SqliteLog, store: ClickHouseStore, is_first: bool
) -> None:
    """Another producer's event of the same id, marked or not, earlier or later, is another one."""
    forged = [Message(envelope(name, producer="rival", resent=True)) for name in ("a", "b")]
    own = [
        Message(envelope("a", producer="own")),
        Message(envelope("b", producer="own", resent=True)),
    ]
    for batch in (forged, own) if is_first else (own, forged):
        await log.append(batch)
        await drained(log, store)
    assert sorted(
        (e.producer, name_of(e.event_id)) for e in store.page(EventFilter(), 9).events
    ) == [
        ("own", "a"),
        ("own", "b"),
        ("rival", "a"),
        ("rival", "b"),
    ]


async def test_an_unmarked_twin_is_kept(log: SqliteLog, store: ClickHouseStore) -> None:
    """Nothing marks them as the same event, so both are the record of what came."""
    await log.append([Message(envelope("a")), Message(envelope("a"))])
    await drained(log, store)
    assert ids(store) == ["a", "a"]


async def test_poison_is_set_aside(log: SqliteLog, store: ClickHouseStore, tmp_path: Path) -> None:
    """A record that cannot be read goes to the dead letters; its neighbours are stored."""
    await log.append([Message(envelope("a")), Message(b"junk"), Message(envelope("b"))])
    registry = await drained(log, store)
    assert ids(store) == ["a", "b"]
    ((value, why),) = dead(tmp_path)
    assert value == b"junk"
    assert "not JSON" in why
    assert count(registry, "poison") == 1


class FailingStore:
    """A real store whose first inserts fail, some after they have stored a part."""

    def __init__(self, store: ClickHouseStore, parts: Sequence[int]) -> None:
        self._store, self._parts = store, list(parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def insert(self, rows: Sequence[StoredEvent], until: float = math.inf) -> None:
        if self._parts:
            self._store.insert(rows[: self._parts.pop(0)])
            raise Retryable("the store went away")
        self._store.insert(rows)


@pytest.fixture
def no_waiting() -> Any:
    """Retries without back-off."""
    with stamina.set_testing(True, attempts=100):
        yield


@pytest.mark.usefixtures("no_waiting")
async def test_a_failed_insert_may_have_stored_a_part(
    log: SqliteLog, store: ClickHouseStore
) -> None:
    """The next try asks what is there, and stores the rest alone."""
    await log.append([Message(envelope(f"e{n}")) for n in range(3)])
    failing: Any = FailingStore(store, [0, 2, 0])
    registry = await drained(log, failing)
    assert ids(store) == ["e0", "e1", "e2"]
    assert registry.get_sample_value("processor_intake_paused") == 0
    assert registry.get_sample_value("processor_intake_pause_transitions_total") == 2


async def test_a_batch_larger_than_a_fetch(
    new_log: Callable[..., SqliteLog], store: ClickHouseStore
) -> None:
    """Whatever the boundaries of batches, every record is stored once."""
    log = new_log()
    await log.start()
    for size in (1, 2, 5, 7):
        await log.append([Message(envelope(f"{size}-{n}")) for n in range(size)])
    await drained(log, store)
    assert len(ids(store)) == len(set(ids(store))) == 15
    await log.stop()


class AwayStore(FailingStore):
    """A real store that is away until it is let back."""

    away = True

    def insert(self, rows: Sequence[StoredEvent], until: float = math.inf) -> None:
        if self.away:
            raise Retryable("the store is away")
        self._store.insert(rows)


async def test_lag_and_pause_show_while_the_store_is_away(
    log: SqliteLog, store: ClickHouseStore
) -> None:
    """The metrics tell of a store that is away, and what waited is stored once it is back."""
    registry, stop = new_registry(), asyncio.Event()
    away: Any = AwayStore(store, [])
    await log.append([Message(envelope("a")), Message(envelope("b"))])
    running = asyncio.create_task(processor(log, away, registry).run(stop, lambda: None))
    await until_sampled(registry, "processor_intake_paused", 1)
    await until_sampled(registry, "processor_lag_records", 2)
    await until_sampled(registry, "processor_lag_seconds", NOON - 1000)  # the log's clock
    away.away = False
    await until_stored(store, "b")
    await until_sampled(registry, "processor_intake_paused", 0)
    stop.set()
    await running
    assert ids(store) == ["a", "b"]


class FarLog:
    """A real log, of which nobody can tell where it ends while it is away."""

    def __init__(self, log: SqliteLog) -> None:
        self._log, self._consumer, self.away = log, log.consumer("g"), True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log if hasattr(self._log, name) else self._consumer, name)

    def consumer(self, group: str) -> "FarLog":
        return self

    async def lag(self) -> int:
        if self.away:
            raise Retryable("the log is away")
        return await self._consumer.lag()

    async def start(self, ownership: Any) -> None:
        await self._consumer.start(ownership)

    async def stop(self) -> None:
        await self._consumer.stop()


async def test_a_lag_that_cannot_be_read_is_no_number(
    log: SqliteLog, store: ClickHouseStore
) -> None:
    """A figure of before would pass for the present one, and an alarm on it would be silent."""
    registry, stop = new_registry(), asyncio.Event()
    far: Any = FarLog(log)
    running = asyncio.create_task(processor(far, store, registry).run(stop, lambda: None))
    await soon(
        lambda: math.isnan(registry.get_sample_value("processor_lag_records") or 0), "no number"
    )
    far.away = False
    await until_sampled(registry, "processor_lag_records", 0)
    stop.set()
    await running


async def until_sampled(registry: CollectorRegistry, name: str, value: float) -> None:
    await soon(lambda: registry.get_sample_value(name) == value, f"{name} is {value}")


class PickyStore(FailingStore):
    """A real store that refuses a batch with a bad row, after it has stored the first row."""

    def insert(self, rows: Sequence[StoredEvent], until: float = math.inf) -> None:
        if not any(row.event_id == id_of("bad") for row in rows):
            self._store.insert(rows)
            return
        self._store.insert([row for row in rows[:1] if row.event_id != id_of("bad")])
        raise Invalid("", "the event store refused the data")


async def test_the_row_at_fault_is_found(
    log: SqliteLog, store: ClickHouseStore, tmp_path: Path
) -> None:
    """A batch that the store refuses is halved until the bad row stands alone."""
    await log.append([Message(envelope(name)) for name in ("a", "bad", "c")])
    picky: Any = PickyStore(store, [])
    registry = await drained(log, picky)
    assert ids(store) == ["a", "c"]
    ((value, why),) = dead(tmp_path)
    assert value == envelope("bad")
    assert "refused the data" in why
    assert (count(registry, "stored"), count(registry, "poison")) == (2, 1)


async def test_too_much_poison_stops_it(
    log: SqliteLog, store: ClickHouseStore, tmp_path: Path
) -> None:
    """Beyond the limit nothing more is set aside or committed, and readiness says why."""
    await log.append([Message(b"junk"), Message(b"junk"), Message(envelope("a"))])
    registry, stop = new_registry(), asyncio.Event()
    one = processor(log, store, registry, most_letters=1)
    running = asyncio.create_task(one.run(stop, lambda: None))
    await until_sampled(registry, "processor_halted", 1)
    with pytest.raises(Retryable, match=r"MAX_DEAD_LETTERS \(1\).*not JSON"):
        await one.ping()
    stop.set()
    await running
    assert (dead(tmp_path), ids(store)) == ([], [])
    await drained(log, store)  # the limit was raised
    assert (len(dead(tmp_path)), ids(store)) == (2, ["a"])


class RefusingStore(FailingStore):
    """A real store that can take nothing, as after a release that changed the rows."""

    def insert(self, rows: Sequence[StoredEvent], until: float = math.inf) -> None:
        raise Invalid("", "the event store refused the data")


async def test_a_store_that_refuses_everything_stops_it(
    log: SqliteLog, store: ClickHouseStore, tmp_path: Path
) -> None:
    """A bad release of ours does not turn the stream into dead letters either."""
    await log.append([Message(envelope(name)) for name in ("a", "b", "c")])
    registry, stop = new_registry(), asyncio.Event()
    refusing: Any = RefusingStore(store, [])
    one = processor(log, refusing, registry, most_letters=1)
    running = asyncio.create_task(one.run(stop, lambda: None))
    await until_sampled(registry, "processor_halted", 1)
    stop.set()
    await running
    assert dead(tmp_path) == []
    await drained(log, store)
    assert ids(store) == ["a", "b", "c"]


class BlockedStore(FailingStore):
    """A real store whose inserts begin, and end when they are let."""

    def __init__(self, store: ClickHouseStore) -> None:
        super().__init__(store, [])
        self.begun, self.may_end = threading.Event(), threading.Event()

    def insert(self, rows: Sequence[StoredEvent], until: float = math.inf) -> None:
        self.begun.set()
        self.may_end.wait()
        self._store.insert(rows)


class WatchedLog:
    """A real log that counts what was fetched, and refuses commits while told to."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log
        self.fetched, self.refuses = 0, False
        self.confirmed: list[float | Conflict] = []  # what is answered at first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def consumer(self, group: str) -> Any:
        return WatchedConsumer(self, self._log.consumer(group))


class WatchedConsumer:
    def __init__(self, watched: WatchedLog, consumer: Consumer) -> None:
        self._watched, self._consumer = watched, consumer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    async def fetch(self, most: int, wait_seconds: float) -> Sequence[Record]:
        records = await self._consumer.fetch(most, wait_seconds)
        self._watched.fetched += len(records)
        return records

    async def confirm(self) -> float:
        if not self._watched.confirmed:
            return await self._consumer.confirm()
        answer = self._watched.confirmed.pop(0)
        if isinstance(answer, Conflict):
            raise answer
        return answer

    async def commit(self, positions: Sequence[Position]) -> None:
        if self._watched.refuses:
            raise Conflict("the partitions went")
        await self._consumer.commit(positions)


async def test_one_batch_is_fetched_ahead_and_no_more(
    log: SqliteLog, store: ClickHouseStore
) -> None:
    """While an insert runs the next batch is filled; a slow store then stops the fetching."""
    names = [f"e{n:02}" for n in range(20)]
    await log.append([Message(envelope(name)) for name in names])
    watched, blocked, stop = WatchedLog(log), BlockedStore(store), asyncio.Event()
    one = processor(watched, blocked, new_registry())  # type: ignore[arg-type]
    running = asyncio.create_task(one.run(stop, lambda: None))
    await soon(lambda: watched.fetched >= 6)
    await asyncio.sleep(0.3)  # longer than a wait for records
    assert watched.fetched == 6
    blocked.may_end.set()
    stop.set()
    await running
    assert ids(store) == names


async def test_revocation_waits_for_the_insert(log: SqliteLog, store: ClickHouseStore) -> None:
    """Partitions go when the running insert has ended and is committed; what lay behind is left."""
    await log.append([Message(envelope(f"e{n}")) for n in range(5)])
    blocked = BlockedStore(store)
    one = processor(log, blocked, new_registry())  # type: ignore[arg-type]
    running = asyncio.create_task(one.run(asyncio.Event(), lambda: None))
    await soon(blocked.begun.is_set)
    leaving = asyncio.create_task(one.revoked())
    await asyncio.sleep(0.05)
    assert not leaving.done()
    blocked.may_end.set()
    await leaving
    assert ids(store) == ["e0", "e1", "e2"]
    await asyncio.sleep(0.05)  # longer than a batch waits
    assert ids(store) == ["e0", "e1", "e2"]
    running.cancel()
    await asyncio.wait([running])
    registry = await drained(log, store)
    assert ids(store) == [f"e{n}" for n in range(5)]
    assert (count(registry, "present"), count(registry, "stored")) == (0, 2)


async def test_revocation_gives_up_what_fails(log: SqliteLog, store: ClickHouseStore) -> None:
    """With the store away the partitions go at once, and their batch is never tried again."""
    await log.append([Message(envelope("a"))])
    away: Any = AwayStore(store, [])
    registry = new_registry()
    one = processor(log, away, registry)
    running = asyncio.create_task(one.run(asyncio.Event(), lambda: None))
    await until_sampled(registry, "processor_intake_paused", 1)
    await one.revoked()
    away.away = False
    await asyncio.sleep(0.3)  # longer than the back-off so far
    assert ids(store) == []
    running.cancel()
    await asyncio.wait([running])
    await drained(log, store)
    assert ids(store) == ["a"]


async def test_a_cancelled_run_ends_its_insert(log: SqliteLog, store: ClickHouseStore) -> None:
    """The deadline of a drain leaves no insert behind that the partitions' next owner misses."""
    await log.append([Message(envelope("a"))])
    blocked = BlockedStore(store)
    one = processor(log, blocked, new_registry())  # type: ignore[arg-type]
    running = asyncio.create_task(one.run(asyncio.Event(), lambda: None))
    await soon(blocked.begun.is_set)
    running.cancel()
    await asyncio.wait([running], timeout=0.05)
    assert not running.done()
    blocked.may_end.set()
    await asyncio.wait([running])
    assert running.cancelled()
    assert ids(store) == ["a"]


async def test_a_commit_may_come_too_late(log: SqliteLog, store: ClickHouseStore) -> None:
    """A commit after the partitions went ends nothing; its records come again and are skipped."""
    watched, registry, stop = WatchedLog(log), new_registry(), asyncio.Event()
    watched.refuses = True
    await log.append([Message(envelope("a"))])
    one = processor(watched, store, registry)  # type: ignore[arg-type]
    running = asyncio.create_task(one.run(stop, lambda: None))
    await until_stored(store, "a")
    await log.append([Message(envelope("b"))])
    await until_stored(store, "b")
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])
    registry = await drained(log, store)
    assert ids(store) == ["a", "b"]
    assert count(registry, "present") == 2


async def test_what_others_have_is_left_to_them(log: SqliteLog, store: ClickHouseStore) -> None:
    """A processor that stood still asks before it inserts whether the partitions are its own."""
    watched, stop = WatchedLog(log), asyncio.Event()
    watched.confirmed = [Conflict("the partitions went")]
    await log.append([Message(envelope("a"))])
    one = processor(watched, store, new_registry())  # type: ignore[arg-type]
    running = asyncio.create_task(one.run(stop, lambda: None))
    await soon(lambda: not watched.confirmed)
    running.cancel()
    await asyncio.wait([running])
    assert ids(store) == []
    await drained(log, store)  # the next owner
    assert ids(store) == ["a"]


async def test_what_was_confirmed_too_long_ago_is_asked_again(
    log: SqliteLog, store: ClickHouseStore
) -> None:
    """Nothing is inserted once the partitions may be another's; then they are asked for again."""
    watched = WatchedLog(log)
    watched.confirmed = [0.0]
    await log.append([Message(envelope("a"))])
    registry = await drained(watched, store)  # type: ignore[arg-type]
    assert ids(store) == ["a"]
    assert registry.get_sample_value("processor_retries_total") == 1


async def test_duplicates_are_counted(log: SqliteLog, store: ClickHouseStore) -> None:
    """Rows beyond one for each event_id show in a metric."""
    await log.append([Message(envelope("a")), Message(envelope("a"))])
    await drained(log, store)
    registry, stop = new_registry(), asyncio.Event()
    running = asyncio.create_task(processor(log, store, registry).run(stop, lambda: None))
    await until_sampled(registry, "processor_duplicate_events", 1)
    stop.set()
    await running


async def test_a_stop_leaves_to_others_what_others_read(
    log: SqliteLog, store: ClickHouseStore
) -> None:
    """Where the log is shared, only what was fetched is finished."""
    await log.append([Message(envelope("a"))])
    watched = WatchedLog(log)
    watched.is_shared = True  # type: ignore[attr-defined]
    await drained(watched, store)  # type: ignore[arg-type]
    assert ids(store) == []

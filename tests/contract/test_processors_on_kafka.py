"""Several processors on one topic of a real Kafka: each event is stored once, whoever has it."""

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.adapters.kafka_log import KafkaLog
from backend.metrics import ProcessorMetrics, new_registry
from backend.ports.event_log import Message
from backend.ports.event_store import EventStore
from backend.processor.batch import Batcher
from backend.processor.poison import DeadLetterLimit
from backend.processor.processor import Processor
from backend.processor.replay import Replay
from backend.queries import EventFilter
from tests.contract.event_logs import KafkaPlace
from tests.tools.event_ids import id_of, name_of
from tests.tools.kafka_broker import KafkaBroker
from tests.tools.waiting import soon


def batcher() -> Batcher:
    return Batcher(max_events=20, max_bytes=1 << 20, flush_seconds=0.05)


def message(name: str) -> Message:
    members = {
        "event_id": id_of(name),
        "timestamp": "2026-11-22T12:00:00Z",
        "source": "s",
        "event_type": "mcp.request",
        "payload": {},
    }
    return Message(orjson.dumps(members), key=name.encode())


class Member:
    """A processor that runs with its own connection to the log."""

    def __init__(self, log: KafkaLog, store: EventStore) -> None:
        self.registry, self._stop, self._log = new_registry(), asyncio.Event(), log
        self.processor = Processor(
            log=log,
            store=store,
            group="processors",
            new_batch=batcher,
            metrics=ProcessorMetrics(self.registry),
            limit=DeadLetterLimit(most=10, window_seconds=600),
            empties_log=False,
            monotonic=time.monotonic,
            clock=time.time,
        )
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._log.start()
        ready = asyncio.Event()
        self._running = asyncio.create_task(self.processor.run(self._stop, ready.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait([self._running, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def stop(self, *, at_once: bool = False) -> None:
        assert self._running is not None
        self._stop.set()
        if at_once:
            self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=at_once)
        await self._log.stop()

    def stored(self) -> float:
        return self.registry.get_sample_value("processor_events_total", {"result": "stored"}) or 0


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = ClickHouseStore(f"chdb://{tmp_path / 'store'}")
    opened.migrate()
    yield opened
    opened.close()


def names(store: EventStore) -> list[str]:
    return sorted(name_of(event.event_id) for event in store.page(EventFilter(), 100_000).events)


async def test_members_come_and_go(broker: KafkaBroker, store: ClickHouseStore) -> None:
    """Partitions move with batches half filled and inserts under way; a replay adds nothing."""
    place = KafkaPlace(broker, partitions=4)
    log = place.log()
    await log.start()
    sent: list[str] = []
    done = asyncio.Event()

    async def send() -> None:
        while not done.is_set():
            fresh = [f"e{len(sent) + n:06}" for n in range(10)]
            await log.append([message(name) for name in fresh])
            sent.extend(fresh)
            await asyncio.sleep(0.05)

    sending = asyncio.create_task(send())
    first, second, third = (Member(place.log(), store) for _ in range(3))
    await first.start()
    await soon(lambda: first.stored() > 20)
    await second.start()
    await soon(lambda: second.stored() > 20)
    await first.stop(at_once=True)
    await third.start()
    await soon(lambda: third.stored() > 20)
    await second.stop()
    done.set()
    await sending
    await soon(lambda: len(names(store)) >= len(sent))
    await third.stop()
    assert names(store) == sent

    replay = Replay(
        log=log,
        store=store,
        group="replay",
        new_batch=batcher,
        monotonic=time.monotonic,
        clock=time.time,
        is_export=False,
    )
    await replay.run()
    progress = replay.progress
    assert (progress.stored, progress.present, progress.missing) == (0, len(sent), 0)
    await log.stop()

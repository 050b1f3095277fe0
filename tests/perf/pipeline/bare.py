"""`python -m tests.perf.pipeline.bare …`: what broker and engine cost without us; prints JSON."""

import argparse
import asyncio
import json
import pickle
import sqlite3
import time
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import cramjam
import uvloop
from aiokafka import AIOKafkaProducer

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.adapters.kafka_cluster import KafkaCluster
from tests.perf.pipeline.processes import per_million, usage
from tests.tools.kafka_broker import settings_of

BATCH_BYTES = 262_144  # of the producer
DATABASE = "mcp"  # where the url names none
Insert = tuple[tuple[Any, ...], bytes, dict[str, Any]]  # table and columns, rows, the rest
Append = Callable[[list[tuple[bytes, Any, Any]]], Awaitable[None]]


class _Meter:
    """Time and CPU since it was made, of this process and of those charged beside it."""

    def __init__(self, charged: list[int]) -> None:
        self._charged = charged
        self._others = usage(charged).cpu_seconds
        self._begin, self._own = time.monotonic(), time.process_time()

    def read(self) -> dict[str, float]:
        return {
            "seconds": time.monotonic() - self._begin,
            "cpu_seconds": time.process_time() - self._own,
            "charged_seconds": usage(self._charged).cpu_seconds - self._others,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    append = commands.add_parser("append", help="the log's messages, once more, elsewhere")
    append.add_argument("filled", type=Path, help="an embedded log")
    append.add_argument("url", help="kafka://host:port/topic, or sqlite:///file")
    append.add_argument("--size", type=int, required=True, help="messages in a request")
    append.add_argument("--at-once", type=int, required=True, help="requests under way")
    append.add_argument("--seconds", type=float, required=True)
    append.set_defaults(run=_append)
    pack = commands.add_parser("pack", help="how far the codecs of the log shrink its messages")
    pack.add_argument("filled", type=Path, help="an embedded log")
    pack.set_defaults(run=_pack)
    insert = commands.add_parser("insert", help="what `record` kept")
    insert.add_argument("url", help="of an empty store")
    insert.add_argument("recorded", type=Path, help="its folder")
    insert.set_defaults(run=_insert)
    for command in (append, insert):
        command.add_argument("--charge", type=int, nargs="*", default=[], help="processes, too")
    uvloop.install()
    arguments = parser.parse_args()
    print(json.dumps(arguments.run(arguments)))


def _append(arguments: argparse.Namespace) -> dict[str, float]:
    with sqlite3.connect(arguments.filled) as filled:
        messages = filled.execute("SELECT value, key, headers FROM records").fetchall()
        (schema,) = filled.execute("SELECT sql FROM sqlite_master WHERE name='records'").fetchone()
    size = arguments.size
    requests = [messages[at : at + size] for at in range(0, len(messages), size)]
    to = _to_kafka if arguments.url.startswith("kafka") else _to_sqlite
    return asyncio.run(to(arguments, requests, schema))


async def _drive(
    append: Append, requests: list[list[tuple[bytes, Any, Any]]], arguments: argparse.Namespace
) -> dict[str, float]:
    """So many requests at once, each awaited before its sender makes the next."""
    deadline = time.monotonic() + arguments.seconds
    meter = _Meter(arguments.charge)
    events = 0

    async def sender(number: int) -> None:
        nonlocal events
        while time.monotonic() < deadline:
            request = requests[number % len(requests)]
            await append(request)
            events += len(request)
            number += arguments.at_once

    await asyncio.gather(*(sender(number) for number in range(arguments.at_once)))
    return {"events": events} | meter.read()


async def _to_kafka(
    arguments: argparse.Namespace, requests: list[list[tuple[bytes, Any, Any]]], _: str
) -> dict[str, float]:
    url = urlsplit(arguments.url)
    topic = url.path.strip("/")
    compression = await _make(topic, url.netloc)
    producer = AIOKafkaProducer(
        bootstrap_servers=url.netloc,
        acks="all",
        enable_idempotence=True,
        linger_ms=5,
        max_batch_size=BATCH_BYTES,
        compression_type=compression,
    )
    await producer.start()
    for partition in await producer.partitions_for(topic):  # whose leaders may be just made
        await producer.send_and_wait(topic, b"{}", partition=partition)

    async def append(request: list[tuple[bytes, Any, Any]]) -> None:
        sent = [await producer.send(topic, value, key=key) for value, key, _ in request]
        await asyncio.gather(*sent)

    try:
        return await _drive(append, requests, arguments)
    finally:
        await producer.stop()


async def _make(topic: str, brokers: str) -> str | None:
    """As ingest makes its own; how it compresses."""
    settings = settings_of(brokers, topic)
    cluster = KafkaCluster(settings)
    await cluster.start()
    await cluster.make_topic(topic, settings.partitions, {})
    await cluster.stop()
    return None if settings.compression == "none" else settings.compression


async def _to_sqlite(
    arguments: argparse.Namespace, requests: list[list[tuple[bytes, Any, Any]]], schema: str
) -> dict[str, float]:
    """A transaction a request, durable when it is over; nothing can be under way beside it."""
    file = sqlite3.connect(urlsplit(arguments.url).path, isolation_level=None)
    file.execute("PRAGMA journal_mode=WAL")
    file.execute("PRAGMA synchronous=FULL")
    file.execute(schema.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"))

    async def append(request: list[tuple[bytes, Any, Any]]) -> None:
        file.execute("BEGIN IMMEDIATE")
        file.executemany(
            "INSERT INTO records (value, key, headers, appended_at) VALUES (?, ?, ?, 0)", request
        )
        file.execute("COMMIT")

    try:
        return await _drive(append, requests, arguments)
    finally:
        file.close()


def _pack(arguments: argparse.Namespace) -> dict[str, Any]:
    with sqlite3.connect(arguments.filled) as filled:
        values = [value for (value,) in filled.execute("SELECT value FROM records")]
    whole = b"".join(values)
    batches = [whole[at : at + BATCH_BYTES] for at in range(0, len(whole), BATCH_BYTES)]
    packed: dict[str, Any] = {}
    for name, codec in {"lz4": cramjam.lz4, "zstd": cramjam.zstd}.items():
        begin = time.process_time()
        size = sum(len(codec.compress(batch)) for batch in batches)
        spent = time.process_time() - begin
        packed[name] = {
            "bytes": size / len(values),
            "cpu": per_million(spent, len(values)),
        }
    return {"message_bytes": len(whole) / len(values), "packed": packed}


def _insert(arguments: argparse.Namespace) -> dict[str, float]:
    store = ClickHouseStore(arguments.url)
    store.migrate()
    url = urlsplit(arguments.url)
    embedded = url.scheme == "chdb"
    client = clickhouse_connect.get_client(
        dsn=arguments.url if embedded else url._replace(path="").geturl(),
        database=DATABASE if embedded else url.path.strip("/"),
    )
    inserts: list[Insert] = [
        pickle.loads(path.read_bytes()) for path in sorted(arguments.recorded.iterdir())
    ]
    # The first insert warms the engine up.
    _again(client, inserts[0])
    blocks = [block for _, block, _ in inserts[1:]]
    rows = sum(block.count(b"\n") for block in blocks)
    meter = _Meter(arguments.charge)
    for insert in inserts[1:]:
        _again(client, insert)
    done = {
        "events": rows,
        "row_bytes": sum(map(len, blocks)) / rows,
    } | meter.read()
    client.close()
    store.close()
    return done


def _again(client: Any, insert: Insert) -> None:
    into, block, named = insert
    client.raw_insert(*into, insert_block=BytesIO(block), **named)


if __name__ == "__main__":
    main()

"""The split wiring: every component a process of its own, Kafka between them, two sidecars."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import clickhouse_connect
from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from backend.ports.event_log import EventLog
from tests.chaos.calls import Gateway
from tests.chaos.clock import Clock
from tests.chaos.faults import Run, all_decided
from tests.tools.split_stack import INGEST_KEY, TOPIC, Sidecar, SplitStack
from tests.tools.stack_part import Part, waiting

ACCESS = Path(__file__).parents[2] / "backend/demo/access"
GROUP = "mcp-sentinel-processor"


class Split:
    """A cluster in small. One sidecar is durable, one is best effort.

    Args:
        run: see there.
    """

    name = "split:"
    ingest_key = INGEST_KEY

    def __init__(self, run: Run) -> None:
        self.run = run
        self.clock = Clock(run.folder / "clock")
        self.gateways: list[Gateway] = []
        self._opened = AsyncExitStack()

    @property
    def store(self) -> Path:
        return self.stack.store.path

    @property
    def ingest_url(self) -> str:
        return self.stack.ingest_url

    @property
    def working(self) -> list[Part]:
        """The processors that run."""
        return [part for part in self.stack.processor if part.is_running]

    def event_log(self) -> EventLog:
        return self.stack.event_log()

    def sidecar(self, gateway: Gateway) -> Sidecar:
        return self.stack.running[gateway.name]

    async def start(self) -> None:
        upstream = await self._opened.enter_async_context(_upstream())
        self.stack = SplitStack(
            self.run.folder,
            upstream,
            ACCESS,
            sidecars={"durable": {"AUDIT_MODE": "durable"}, "besteffort": {}},
            environ={"PYTHONPATH": str(self.clock.path)},
        )
        await asyncio.to_thread(self.stack.start)
        for name, sidecar in self.stack.running.items():
            gateway = Gateway(name, sidecar.url, name == "durable", sidecar.spool)
            self.gateways.append(gateway)

    async def is_quiet(self) -> bool:
        for sidecar in self.stack.running.values():
            if await asyncio.to_thread(waiting, sidecar.point.address):
                return False
        consumer = AIOKafkaConsumer(bootstrap_servers=self.stack.kafka.address)
        await consumer.start()
        try:
            every = [TopicPartition(TOPIC, number) for number in range(self.stack.partitions)]
            ends = await consumer.end_offsets(every)
        finally:
            await consumer.stop()
        committed = await self.committed()
        return all(end <= committed.get(each.partition, 0) for each, end in ends.items())

    def is_tired(self) -> bool:
        return False

    async def stop(self) -> None:
        await asyncio.to_thread(self.stack.stop)
        for gateway in self.gateways:
            gateway.note_start()

    async def end(self) -> None:
        await asyncio.to_thread(self.stack.end)
        await self._opened.aclose()

    async def kill(self, part: Part) -> None:
        """SIGKILL, and start it again once it is missed."""
        await asyncio.to_thread(part.kill)
        await all_decided(self)
        await self.begin(part)

    async def begin(self, part: Part) -> None:
        await asyncio.to_thread(part.start)

    async def kill_point(self, gateway: Gateway) -> None:
        """SIGKILL a decision point; start another on its spool."""
        point = self.sidecar(gateway).point
        async with gateway.outage():
            await asyncio.to_thread(point.kill)
            gateway.note_start()
            await self.begin(point)

    async def backend_ready(self) -> None:
        """Wait until every process of the backend is ready."""
        for part in (self.stack.ingest, self.stack.api, *self.working):
            await asyncio.to_thread(part.wait_ready)

    async def committed(self) -> dict[int, int]:
        """Next offset of the group by partition."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.stack.kafka.address)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(GROUP)
        finally:
            await admin.close()
        return {at.partition: each.offset for at, each in found.items() if at.topic == TOPIC}

    async def stored_beyond(self, committed: dict[int, int]) -> int:
        """Rows in the store whose offsets are not committed."""
        return await asyncio.to_thread(self._beyond, committed)

    def _beyond(self, committed: dict[int, int]) -> int:
        url = self.stack.store.url  # not through the proxy
        with clickhouse_connect.get_client(dsn=url) as client:
            rows = client.query("SELECT log_partition, log_offset FROM events").result_rows
        return sum(offset >= committed.get(partition, 0) for partition, offset in rows)


@asynccontextmanager
async def _upstream() -> AsyncIterator[str]:
    """A server that answers every call; what is tested stands in front of it."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"jsonrpc": "2.0", "id": 1, "result": {"content": []}})

    app = web.Application()
    app.router.add_post("/mcp", take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()

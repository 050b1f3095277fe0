"""The two wirings of the same code: logs and stores to fill, and the stack that runs on them."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.perf.pipeline.processes import Service, service
from tests.tools.clickhouse_endpoint import ClickHouseEndpoint
from tests.tools.kafka_broker import running_broker


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything from ingest to the api, as it runs in one wiring.

    Args:
        charged: process ids by what they do.
    """

    ingest: Service
    processor: Service
    api: Service
    charged: Mapping[str, tuple[int, ...]]

    def stored(self) -> int:
        """Events in the store."""
        return int(self.processor.metric("processor_events_total", result="stored"))


@dataclass(frozen=True, slots=True)
class Wiring:
    """Where events lie.

    Args:
        folder: of its processes.
        logs, stores: URLs with a place for a name.
        broker, engine: process ids; empty where log or store live in our own process.
        environ: more settings of every service.
    """

    name: str
    folder: Path
    logs: str
    stores: str
    broker: tuple[int, ...] = ()
    engine: tuple[int, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def service(
        self,
        target: str,
        log: str,
        store: str = "",
        recording: Path | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Iterator[Service]:
        """One target, on a log and a store of these names."""
        urls = {"EVENT_LOG_URL": self.log(log), "STORE_URL": self.store(store or log)}
        with service(
            target, self.folder, recording, **urls, **self.environ, **(more or {})
        ) as running:
            yield running

    def log(self, name: str) -> str:
        """EVENT_LOG_URL of another log."""
        return self.logs.format(name)

    def store(self, name: str) -> str:
        """STORE_URL of another store."""
        return self.stores.format(name)

    @contextmanager
    def stack(self, name: str, **more: str) -> Iterator[Stack]:
        """Everything, on a log and a store of that name: one process, or one for each part."""
        if not self.broker:
            with self.service("all", name, more=more) as whole:
                yield Stack(whole, whole, whole, {"backend": (whole.pid,)})
            return
        with ExitStack() as running:
            ingest, processor, api = (
                running.enter_context(self.service(target, name, more=more))
                for target in ("ingest", "processor", "api")
            )
            ours = {each.name: (each.pid,) for each in (ingest, processor, api)}
            theirs = {"broker": self.broker, "engine": self.engine}
            yield Stack(ingest, processor, api, ours | theirs)


@contextmanager
def embedded(folder: Path) -> Iterator[Wiring]:
    """SQLite and chDB in one process of ours."""
    yield Wiring("embedded", folder, f"sqlite://{folder}/{{}}.sqlite", f"chdb://{folder}/{{}}")


@contextmanager
def cluster(folder: Path) -> Iterator[Wiring]:
    """A process for each part; Kafka, and ClickHouse's HTTP interface over the same engine."""
    store = ClickHouseEndpoint(folder / "clickhouse")
    with running_broker(folder / "kafka") as broker, store:
        stores = store.url.rpartition("/")[0] + "/{}"
        logs = f"kafka://{broker.address}/{{}}"
        alone = {"KAFKA_REPLICATION": "1", "CHANGE_OUTBOX": str(folder / "outbox.db")}
        yield Wiring("cluster", folder, logs, stores, (broker.pid,), (store.pid,), alone)

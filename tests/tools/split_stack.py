"""The split stack for tests: each component a process of its own, as on a cluster.

Real Kafka, ClickHouse's HTTP path over chDB, ingest, processors, api, and sidecars of real
Envoy and decision point. Between the components stand proxies that can cut and freeze.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Final

from backend.adapters.kafka_client import KafkaSettings
from backend.adapters.kafka_log import KafkaLog
from tests.tools.clickhouse_endpoint import ClickHouseEndpoint
from tests.tools.envoy_process import RunningEnvoy, running_sidecar
from tests.tools.kafka_broker import KafkaBroker, settings_of
from tests.tools.ports import free_port
from tests.tools.stack_part import Part
from tests.tools.tcp_proxy import TcpProxy

TOPIC: Final = "mcp.events"
INGEST_KEY: Final = "ingest-key-of-the-tests"
ADMIN_KEY: Final = "admin-key-of-the-tests"


@dataclass
class Sidecar:
    """Envoy and its decision point."""

    name: str
    envoy: RunningEnvoy
    point: Part

    @property
    def url(self) -> str:
        """Of the governed server."""
        return self.envoy.url + "/mcp"

    @property
    def spool(self) -> Path:
        return self.envoy.folder / "spool"


@dataclass
class SplitStack:
    """A stack that is up between `start` and `stop`; used as a context, it always ends.

    Args:
        folder: data and logs.
        upstream: URL of the MCP server, with its path.
        access: folder of custom resources.
        sidecars: environment of the decision point of each, by name.
        processors: how many.
        environ: of every component of the backend and every decision point, such as PYTHONPATH.
        partitions: of the topic.

    Attributes:
        to_ingest, to_kafka, to_store: what stands between the components.
    """

    folder: Path
    upstream: str
    access: Path
    sidecars: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {"sidecar": {}})
    processors: int = 2
    environ: Mapping[str, str] = field(default_factory=dict)
    partitions: int = 3

    def __post_init__(self) -> None:
        self._opened = ExitStack()
        self.to_ingest, self.to_kafka, self.to_store = TcpProxy(), TcpProxy(), TcpProxy()
        for proxy in (self.to_ingest, self.to_kafka, self.to_store):
            self._opened.callback(proxy.close)
        advertised = {"advertised.listeners": f"PLAINTEXT://{self.to_kafka.address}"}
        self.kafka = KafkaBroker(self.folder / "kafka", advertised)
        self.to_kafka.target = int(self.kafka.address.rpartition(":")[2])
        self.store = ClickHouseEndpoint(self.folder / "store")
        self.running: dict[str, Sidecar] = {}
        self.ingest = self._ingest()
        self.processor = [self._processor(number) for number in range(self.processors + 1)]
        self.api = self._api()

    @property
    def ingest_url(self) -> str:
        return f"http://{self.to_ingest.address}/events"

    @property
    def api_url(self) -> str:
        return self.api.address

    @property
    def store_url(self) -> str:
        return f"clickhouse://{self.to_store.address}/mcp"

    def event_log(self) -> KafkaLog:
        """Another client of the log, not started."""
        return KafkaLog(self.kafka_settings)

    @property
    def kafka_settings(self) -> KafkaSettings:
        """For a client of a test; it does not go through the proxy at first."""
        return replace(settings_of(self.kafka.address, TOPIC), partitions=self.partitions)

    def parts(self) -> list[Part]:
        """The processes of the backend, in the order of their start; the spare processor too."""
        return [self.ingest, *self.processor, self.api]

    def start(self) -> None:
        """Everything up and ready, but the spare processor."""
        self.kafka.start()
        self.store.start()
        self.to_store.target = int(self.store.url.rpartition(":")[2].partition("/")[0])
        for part in (self.ingest, *self.processor[:-1], self.api):
            part.start(wait=False)
        for part in (self.ingest, *self.processor[:-1], self.api):
            part.wait_ready()
        for name, settings in self.sidecars.items():
            envoy = self._opened.enter_context(running_sidecar(self.upstream, check_seconds=5.0))
            self.running[name] = Sidecar(name, envoy, self._point(name, envoy, settings))
            self.running[name].point.start()

    def stop(self) -> None:
        """Drain, in the order of the events' way; each must end well. The data stay."""
        for sidecar in self.running.values():
            sidecar.point.stop()
        for part in self.parts():
            part.stop()
        self.store.stop()
        self.kafka.stop()

    def __enter__(self) -> "SplitStack":
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """Kill whatever still runs."""
        for part in (*self.parts(), *(sidecar.point for sidecar in self.running.values())):
            part.kill()
        if self.store.is_running:
            self.store.kill()
        self.kafka.kill()
        self._opened.close()

    def _ingest(self) -> Part:
        port = free_port()
        self.to_ingest.target = port
        environ = self._log() | {"PORT": str(port), "INGEST_API_KEYS": INGEST_KEY}
        return self._backend("ingest", "ingest", f"http://127.0.0.1:{port}/ready", environ)

    def _processor(self, number: int) -> Part:
        environ = self._log() | {"STORE_URL": self.store_url}
        return self._backend("processor", f"processor-{number}", "", environ)

    def _api(self) -> Part:
        port = free_port()
        environ = self._log() | {
            "PORT": str(port),
            "STORE_URL": self.store_url,
            "ACCESS_URL": f"dir://{self.access}",
            "CHANGE_OUTBOX": str(self.folder / "outbox.db"),
            "ADMIN_API_KEYS": ADMIN_KEY,
        }
        return self._backend("api", "api", f"http://127.0.0.1:{port}/ready", environ)

    def _log(self) -> dict[str, str]:
        return {
            "EVENT_LOG_URL": f"kafka://{self.to_kafka.address}/{TOPIC}",
            "KAFKA_PARTITIONS": str(self.partitions),
            "KAFKA_REPLICATION": "1",
        }

    def _backend(self, target: str, name: str, ready: str, environ: Mapping[str, str]) -> Part:
        port = free_port()
        return Part(
            name=name,
            argv=("-m", "backend", "--target", target),
            environ={**self.environ, **environ, "METRICS_PORT": str(port)},
            ready=ready or f"http://127.0.0.1:{port}/ready",
            cwd=self.folder,
            log=self.folder / f"{name}.log",
        )

    def _point(self, name: str, envoy: RunningEnvoy, settings: Mapping[str, str]) -> Part:
        port = free_port()
        environ = {
            "GATEWAY_NAME": name,
            "ACCESS_DIR": str(self.access),
            "CHECK_ADDRESS": "unix:check.sock",
            "SPOOL_DIR": "spool",
            "UNDECIDED_LOG": "undecided.jsonl",
            "MCP_SENTINEL_INGEST_URL": self.ingest_url,
            "MCP_SENTINEL_API_KEY": INGEST_KEY,
            "METRICS_PORT": str(port),
        }
        return Part(
            name=name,
            argv=("-m", "extauthz"),
            environ={**self.environ, **environ, **settings},
            ready=f"http://127.0.0.1:{port}/ready",
            cwd=envoy.folder,
            log=self.folder / f"{name}.log",
        )

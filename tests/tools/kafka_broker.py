"""A real Kafka for tests: one broker that is its own controller, on loopback."""

import base64
import os
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from backend.adapters.kafka_client import KafkaSettings
from backend.event_log_settings import EventLogSettings
from backend.wiring_adapters import kafka_settings
from tests.tools.ports import free_ports

ROOT: Final = Path(__file__).parents[2]
JARS: Final = ROOT / "build/kafka/jars"  # copied by `make build/kafka/installed`
LOGGING: Final = ROOT / "tests/tools/kafka/log4j2.properties"
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 30.0
STARTED: Final = b"Kafka Server started"  # logged once requests are answered


def settings_of(address: str, topic: str) -> KafkaSettings:
    """What the backend would be told of a topic on one broker."""
    return kafka_settings(EventLogSettings(kafka_replication=1), f"kafka://{address}/{topic}")


class KafkaBroker:
    """A broker and its data, which outlive `kill` and `stop`; the port stays the same.

    Args:
        folder: made and formatted here when it holds no broker yet.
        properties: more of server.properties, as Kafka names them.
        protocol: of the clients; with another than PLAINTEXT they have a listener of their own,
            named CLIENTS.
        users: passwords by name, for SCRAM-SHA-512.

    Attributes:
        address: `host:port` for clients.
        log: what it prints, of all its starts.
    """

    def __init__(
        self,
        folder: Path,
        properties: Mapping[str, str] = MappingProxyType({}),
        protocol: str = "PLAINTEXT",
        users: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        port, controller_port, clients_port = free_ports(3)
        own_listener = protocol != "PLAINTEXT"
        self.address = f"127.0.0.1:{clients_port if own_listener else port}"
        self._users = users
        self.log = folder / "broker.log"
        self._folder, self._config = folder, folder / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        lines = _properties(port, controller_port, folder / "data")
        if own_listener:
            lines["listener.security.protocol.map"] += f",CLIENTS:{protocol}"
            for name in ("listeners", "advertised.listeners"):
                lines[name] += f",CLIENTS://{self.address}"
        lines |= properties
        self._config.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))

    @property
    def pid(self) -> int:
        """Of the running process, to be frozen (SIGSTOP) for instance."""
        assert self._process is not None, "the broker does not run"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Format the data once, start, and wait until it answers."""
        assert not self.is_running, "the broker runs already"
        assert JARS.is_dir(), "no Kafka here; run `make build/kafka/installed`"
        if not (self._folder / "data/meta.properties").exists():
            self._format()
        seen = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as out:
            words = [*_java("-Xmx512m", "-XX:+UseSerialGC"), "kafka.Kafka", str(self._config)]
            self._process = subprocess.Popen(words, stdout=out, stderr=out, cwd=self._folder)
        deadline = time.monotonic() + START_SECONDS
        while STARTED not in self._printed(seen):
            assert self.is_running, self._printed(seen).decode()
            assert time.monotonic() < deadline, self._printed(seen).decode()
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL: what was not written to the operating system is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """SIGTERM and wait; killed when it does not end."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
            self.kill()

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        words = [*_java("-XX:TieredStopAtLevel=1"), "kafka.tools.StorageTool", "format"]
        for name, password in self._users.items():
            words += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        done = subprocess.run(
            [*words, f"--cluster-id={cluster}", "-c", str(self._config)],
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _printed(self, since: int) -> bytes:
        with self.log.open("rb") as log:
            log.seek(since)
            return log.read()


@contextmanager
def running_broker(folder: Path, *more: Any, **settings: Any) -> Iterator[KafkaBroker]:
    """A started broker; killed at the end, whatever happened to it meanwhile. Args: as its."""
    broker = KafkaBroker(folder, *more, **settings)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


def _java(*options: str) -> list[str]:
    java_home = os.environ.get("JAVA_HOME")
    java = f"{java_home}/bin/java" if java_home else "java"
    return [java, *options, f"-Dlog4j2.configurationFile={LOGGING}", "-cp", f"{JARS}/*"]


def _properties(port: int, controller_port: int, data: Path) -> dict[str, str]:
    """One node, nothing replicated, groups that form and forget quickly."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "500",
        "log.cleaner.dedupe.buffer.size": "2097152",
        # A broker that was killed may come back only when its session is over.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
    }

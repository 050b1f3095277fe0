"""The manifest's Kafka, run by a real one, with the passwords that it asks for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.adapters.kafka_client import KafkaSettings
from backend.adapters.kafka_log import KafkaLog
from backend.settings import Settings
from backend.wiring_adapters import kafka_settings
from extauthz.core import config
from extauthz.core.errors import Invalid
from tests.tools.kafka_broker import KafkaBroker
from tests.tools.kube_manifests import OVERLAYS, environment, named, rendered, workload
from tests.tools.ports import free_ports

SINGLE = OVERLAYS[0]


def properties(folder: Path) -> tuple[dict[str, str], str]:
    """As the ConfigMap has them, on free ports; and where clients find it."""
    text = named(rendered(SINGLE), "ConfigMap")["mcp-sentinel", "kafka"]["data"][
        "server.properties"
    ]
    clients, controller, brokers = free_ports(3)
    for port, free in ((9092, clients), (9093, controller), (9094, brokers)):
        assert f":{port}" in text
        text = text.replace(f"://:{port}", f"://127.0.0.1:{free}").replace(f":{port}", f":{free}")
    text = text.replace("/var/lib/kafka/data/log", str(folder / "data"))
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines), f"127.0.0.1:{clients}"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A node as the StatefulSet starts it, told by its environment who it is."""
    kafka, folder = workload(SINGLE, "kafka"), tmp_path_factory.mktemp("kafka")
    lines, address = properties(folder)
    told = environment(SINGLE, kafka, kafka.containers[0]) | {"NODE_ID": "0", "NODE": "127.0.0.1"}
    controller = lines["listeners"].split("CONTROLLER://")[1].split(",")[0]
    told["VOTERS"] = f"0@{controller}"
    told.pop("KAFKA_HEAP_OPTS")  # for the image's scripts
    broker = KafkaBroker(folder, lines)
    broker.address = address
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        try:
            broker.start()
            yield broker
        finally:
            broker.kill()


def settings_of(broker: KafkaBroker, **changed: str) -> KafkaSettings:
    """What ingest is told by its manifest, of this broker."""
    ingest = workload(SINGLE, "mcp-sentinel-ingest")
    told = environment(SINGLE, ingest, ingest.containers[0])
    told |= {"KAFKA_BROKERS": broker.address, **changed}
    return kafka_settings(config.load(Settings, told), "kafka://")


async def test_ingest_is_let_in(broker: KafkaBroker) -> None:
    """By the password of its Secret; it makes its topic."""
    log = KafkaLog(settings_of(broker))
    await log.start()
    await log.ping()
    await log.stop()


@pytest.mark.parametrize(
    ("user", "password"), [("sentinel", "a-guess"), ("node", "secret-KAFKA_NODE_PASSWORD")]
)
async def test_nobody_else_is_let_in(broker: KafkaBroker, user: str, password: str) -> None:
    """Neither a guess nor what nodes say to each other opens the clients' port."""
    told = {"KAFKA_SASL_USERNAME": user, "KAFKA_SASL_PASSWORD": password}
    with pytest.raises(Invalid, match="KAFKA_SASL_USERNAME: is refused by the brokers"):
        await KafkaLog(settings_of(broker, **told)).start()

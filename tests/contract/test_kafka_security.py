"""Kafka over TLS with a password."""

import datetime
import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from backend.ports.event_log import Message
from extauthz.core.errors import Invalid, Retryable
from tests.contract.event_logs import KafkaPlace
from tests.tools.kafka_broker import running_broker

SECURE = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "SCRAM-SHA-512",
    "username": "sentinel",
    "password": "correct horse",
}


def self_signed(folder: Path, name: str) -> Path:
    """A PEM with the certificate of 127.0.0.1; beside it one with the key, too (`.keystore`)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / f"{name}.pem").write_bytes(pem)
    (folder / f"{name}.keystore").write_bytes(private + pem)
    return folder / f"{name}.pem"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaPlace]:
    folder = tmp_path_factory.mktemp("secure")
    authority = self_signed(folder, "broker")
    properties = {
        "listener.name.clients.ssl.keystore.type": "PEM",
        "listener.name.clients.ssl.keystore.location": str(authority.with_suffix(".keystore")),
        "listener.name.clients.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.clients.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
    }
    users = {SECURE["username"]: SECURE["password"]}
    with running_broker(folder / "kafka", properties, protocol="SASL_SSL", users=users) as broker:
        yield KafkaPlace(broker, ca_file=str(authority), **SECURE)


async def test_events_pass_through_tls_with_a_password(place: KafkaPlace) -> None:
    """Producer, consumer and what asks for topics all use them."""
    log = place.log()
    await log.start()
    await log.append([Message(b"a")])
    consumer = log.consumer("g")
    await consumer.start(Owner())
    assert [record.value for record in await consumer.fetch(1, 30)] == [b"a"]
    await consumer.stop()
    await log.stop()


class Owner:
    async def assigned(self, assignment: object) -> None: ...

    async def revoked(self) -> None: ...


async def test_what_the_broker_refuses_is_named(place: KafkaPlace, tmp_path: Path) -> None:
    """Wrong user, password, authority: the start says which setting, and repeats no password."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"password": "hunter2"}, "KAFKA_SASL_USERNAME"),
        ({"username": "nobody"}, "KAFKA_SASL_USERNAME"),
        ({"sasl_mechanism": "PLAIN"}, "KAFKA_SASL_USERNAME"),
        ({"ca_file": str(self_signed(tmp_path, "other"))}, "KAFKA_CA_FILE"),
        ({"ca_file": str(tmp_path / "none.pem")}, "KAFKA_CA_FILE"),
    ]
    for change, name in wrong:
        other = KafkaPlace(place.broker)
        other.settings = replace(place.settings, **change)
        with pytest.raises(Invalid) as raised:
            await other.log().start()
        assert raised.value.field == name
        assert "hunter2" not in str(raised.value)
        assert "hunter2" not in repr(other.settings)


async def test_plain_text_to_a_tls_port(place: KafkaPlace) -> None:
    """Is no connection: the log is away, and the start ends in bounded time."""
    other = KafkaPlace(place.broker, timeout_seconds=2.0)
    with pytest.raises(Retryable):
        await other.log().start()

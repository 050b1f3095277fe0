"""Settings stop the start with name, value and mend."""

from collections.abc import Mapping

import pytest

from backend import wiring
from backend.settings import Settings
from extauthz.core import config
from extauthz.core.errors import Invalid

WRONG = [
    ({"EVENT_LOG_URL": "log.db"}, "EVENT_LOG_URL", "sqlite:///path"),
    ({"EVENT_LOG_URL": "sqlite://log.db"}, "EVENT_LOG_URL", "sqlite:///path"),
    ({"EVENT_LOG_URL": "kafka://:9092/mcp.events"}, "EVENT_LOG_URL", "host:9092"),
    ({"EVENT_LOG_URL": "kafka://a:9092,b:x/mcp.events"}, "EVENT_LOG_URL", "host:9092"),
    ({"EVENT_LOG_URL": "kafka://a/mcp events"}, "EVENT_LOG_URL", "mcp.events"),
    ({"EVENT_LOG_URL": "kafka://u:hunter2@a/t"}, "EVENT_LOG_URL", "KAFKA_SASL_PASSWORD"),
    ({"KAFKA_BROKERS": "a:9092,,b:0"}, "KAFKA_BROKERS", "host:9092"),
    ({"KAFKA_TOPIC": "a/b"}, "KAFKA_TOPIC", "mcp.events"),
    ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
    ({"KAFKA_SASL_MECHANISM": "GSSAPI"}, "KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
    ({"STORE_URL": "chdb://store"}, "STORE_URL", "chdb:///path"),
    ({"STORE_URL": "mysql://user:hunter2@host/db"}, "STORE_URL", "chdb:///path"),
    ({"STORE_URL": "clickhouse:///mcp"}, "STORE_URL", "clickhouse://host"),
    ({"ACCESS_URL": "/access"}, "ACCESS_URL", "dir:///path"),
    ({"INGEST_PORT": "70000"}, "INGEST_PORT", "65535"),
    ({"BATCH_SIZE": "0"}, "BATCH_SIZE", "at least 1"),
    ({"FLUSH_INTERVAL": "2"}, "FLUSH_INTERVAL", "like 24h"),
    ({"AUTH": "maybe"}, "AUTH", "one of on, off"),
]


@pytest.mark.parametrize(("environ", "name", "mend"), WRONG)
def test_a_wrong_value_is_named(environ: Mapping[str, str], name: str, mend: str) -> None:
    """The name and the mend are in the message, a secret never is."""
    with pytest.raises(Invalid) as raised:
        config.load(Settings, environ)
    assert name in str(raised.value)
    assert mend in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_keys_may_stand_in_a_file() -> None:
    """One a line or comma-separated."""
    files = {"/k": "a\nb, c\n"}
    settings = config.load(Settings, {"ADMIN_API_KEYS_FILE": "/k"}, files.__getitem__)
    assert settings.admin_api_keys == ("a", "b", "c")
    assert "'a'" not in repr(settings)


def test_secrets_are_not_printed() -> None:
    """--print-config names them and hides their values."""
    given = {"API_KEYS": "hunter2", "STORE_URL": "clickhouse://u:hunter2@h:8123/mcp"}
    printed = "\n".join(config.changed(config.load(Settings, given)))
    assert "API_KEYS" in printed
    assert "hunter2" not in printed


REFUSED_STARTS = [
    ("all", {}, "INGEST_API_KEYS"),
    ("ingest", {"ADMIN_API_KEYS": "a"}, "INGEST_API_KEYS"),
    ("api", {"INGEST_API_KEYS": "a"}, "ADMIN_API_KEYS"),
    ("all", {"AUTH": "off", "HOST": "0.0.0.0"}, "AUTH"),
    ("ingest", {"API_KEYS": "a"}, "EVENT_LOG_URL"),
    ("ingest", {"API_KEYS": "a", "EVENT_LOG_URL": "file:///a.ndjson"}, "EVENT_LOG_URL"),
    ("ingest", {"API_KEYS": "a", "EVENT_LOG_URL": "kafka:///t"}, "KAFKA_BROKERS"),
    (
        "ingest",
        {"API_KEYS": "a", "KAFKA_BROKERS": "127.0.0.1:1", "KAFKA_SECURITY_PROTOCOL": "SASL_SSL"},
        "KAFKA_SASL_USERNAME",
    ),
    (
        "ingest",
        {
            "API_KEYS": "a",
            "EVENT_LOG_URL": "kafka://127.0.0.1:1",
            "KAFKA_SECURITY_PROTOCOL": "SSL",
            "KAFKA_CA_FILE": "/nowhere.pem",
        },
        "KAFKA_CA_FILE",
    ),
    ("api", {"API_KEYS": "a"}, "ACCESS_URL"),
    ("api", {"API_KEYS": "a", "ACCESS_URL": "dir:///a"}, "STORE_URL"),
    (
        "api",
        {
            "API_KEYS": "a",
            "ACCESS_URL": "dir:///a",
            "STORE_URL": "clickhouse://127.0.0.1:1/mcp",
            "KAFKA_BROKERS": "127.0.0.1:1",
        },
        "CHANGE_OUTBOX",
    ),
]


@pytest.mark.parametrize(("target", "environ", "name"), REFUSED_STARTS)
async def test_a_start_without_what_it_needs(
    target: str, environ: Mapping[str, str], name: str
) -> None:
    """Deny by default: no credential, no start; and a missing address is named."""
    import asyncio

    with pytest.raises(Invalid) as raised:
        await wiring.run(config.load(Settings, environ), target, asyncio.Event())
    assert raised.value.field == name
    assert raised.value.mend


def test_what_is_printed_can_be_typed() -> None:
    """--print-config writes a setting as it is read, be it a word or a duration."""
    given = {"AUTH": "off", "FLUSH_INTERVAL": "1m30s", "BATCH_SIZE": "7"}
    loaded = config.load(Settings, given)
    printed = dict(line.split("=", 1) for line in config.changed(loaded))
    assert printed["AUTH"] == "off"
    assert config.load(Settings, printed) == loaded


@pytest.mark.parametrize(
    ("environ", "days"),
    [
        ({}, 31),
        ({"EVENT_RETENTION_DAYS": "0"}, 31),
        ({"EVENT_RETENTION_DAYS": "7"}, 7),
        ({"EVENT_RETENTION_DAYS": "90"}, 31),
        ({"EVENT_RETENTION_DAYS": "90", "INGEST_MAX_AGE_DAYS": "400"}, 90),
        ({"EVENT_RETENTION_DAYS": "0", "INGEST_MAX_AGE_DAYS": "400"}, 400),
    ],
)
def test_how_old_events_may_be(environ: Mapping[str, str], days: int) -> None:
    """There is a bound, however long they are kept; none is taken that would not be kept."""
    assert config.load(Settings, environ).max_age_seconds == days * 86_400

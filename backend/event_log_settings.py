"""The part of the backend's settings that says where the event log is."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from extauthz.core import config
from extauthz.core.config import setting
from extauthz.core.errors import Invalid

KAFKA: Final = "kafka://"
SQLITE: Final = "sqlite://"
FILE: Final = "file://"  # an export; it can only be read
_LIKE: Final = "write it like sqlite:///path or kafka://host:9092/mcp.events"


def broker_list(value: str) -> tuple[str, ...]:
    """`host:port`, comma-separated; port 9092 where none is given. Raises: Invalid."""
    return tuple(_broker(each) for each in config.comma_list(value))


def _broker(value: str) -> str:
    try:
        parts = urlsplit(f"//{value}")
        host, port = parts.hostname, 9092 if parts.port is None else parts.port
    except ValueError:
        host, port = None, 0
    if not host or not port or parts.netloc != value or parts.username is not None:
        raise Invalid("", f"`{value[:200]}` is not a broker", "write it like host:9092")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _url(value: str) -> str:
    if value.startswith(KAFKA):
        address, _, topic = value.removeprefix(KAFKA).partition("/")
        if "@" in address:
            mend = "set KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
            raise Invalid("", "holds credentials", mend)
        broker_list(address)
        if topic:
            _topic(topic)
        return value
    if not value.startswith((SQLITE, FILE)):
        raise Invalid("", "is of no known scheme", _LIKE)
    parts = urlsplit(value)
    if parts.netloc or not parts.path.strip("/"):
        raise Invalid("", "names no absolute path", f"write it like {parts.scheme}:///path")
    return value


def _topic(value: str) -> str:
    allowed = value.replace(".", "").replace("_", "").replace("-", "")
    if not (allowed.isascii() and allowed.isalnum()) or len(value) > 240:
        mend = "use letters, digits, `.`, `_` and `-`, like mcp.events"
        raise Invalid("", "is not a topic", mend)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLogSettings:
    """Rows of the table of settings."""

    event_log_url: str = setting(
        "EVENT_LOG_URL",
        default="",
        read=_url,
        help="Event log: sqlite:///path or kafka://host:9092/topic. Needed by ingest, processor; "
        "by api for dead letters and the history of hand edits.",
    )
    event_log_retention_hours: float = setting(
        "EVENT_LOG_RETENTION_HOURS",
        default=168.0,
        read=config.number(0),
        help="How long SQLite keeps processed records, and a topic that is made here any.",
    )
    event_log_max_bytes: int = setting(
        "EVENT_LOG_MAX_BYTES",
        default=8 << 30,
        read=config.whole(1 << 20),
        help="Size of the embedded log at which ingest answers 503.",
    )
    kafka_brokers: tuple[str, ...] = setting(
        "KAFKA_BROKERS",
        default=(),
        read=broker_list,
        help="Brokers, comma-separated, where EVENT_LOG_URL is kafka:// or unset.",
    )
    kafka_topic: str = setting(
        "KAFKA_TOPIC",
        default="mcp.events",
        read=_topic,
        help="Topic, where EVENT_LOG_URL names none; its dead letters go to `<topic>.dlq`.",
    )
    consumer_group: str = setting(
        "KAFKA_GROUP",
        default="mcp-sentinel-processor",
        help="Consumer group of the processor.",
    )
    kafka_partitions: int = setting(
        "KAFKA_PARTITIONS",
        default=6,
        read=config.whole(1, 10_000),
        help="Partitions of a topic that is made here; one that has fewer stops the start.",
    )
    kafka_replication: int = setting(
        "KAFKA_REPLICATION",
        default=3,
        read=config.whole(1, 100),
        help="Copies of a partition of a topic that is made here; all but one must confirm.",
    )
    kafka_compression: str = setting(
        "KAFKA_COMPRESSION",
        default="zstd",
        read=config.one_of("none", "lz4", "zstd"),
        help="Compression of what is written; zstd makes a sixth of it for 3 µs of CPU an event.",
    )
    kafka_security_protocol: str = setting(
        "KAFKA_SECURITY_PROTOCOL",
        default="PLAINTEXT",
        read=config.one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
        help="How the brokers are reached: with TLS (SSL), with a password (SASL), or both.",
    )
    kafka_sasl_mechanism: str = setting(
        "KAFKA_SASL_MECHANISM",
        default="SCRAM-SHA-512",
        read=config.one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        help="How the password is proven.",
    )
    kafka_sasl_username: str = setting(
        "KAFKA_SASL_USERNAME", default="", help="User, where the protocol has SASL."
    )
    kafka_sasl_password: str = setting(
        "KAFKA_SASL_PASSWORD",
        default="",
        secret=True,
        files=("KAFKA_SASL_PASSWORD_FILE",),
        help="Password, where the protocol has SASL.",
    )
    kafka_ca_file: str = setting(
        "KAFKA_CA_FILE",
        default="",
        help="PEM of the authority that signed the brokers; unset: the system's.",
    )
    kafka_cert_file: str = setting(
        "KAFKA_CERT_FILE", default="", help="PEM of this client's certificate, for mutual TLS."
    )
    kafka_key_file: str = setting(
        "KAFKA_KEY_FILE",
        default="",
        help="PEM of its key; unset: it stands in KAFKA_CERT_FILE.",
    )

    @property
    def has_event_log(self) -> bool:
        """Whether it is said where the event log is."""
        return bool(self.event_log_url or self.kafka_brokers)

"""What every client of Kafka here is told, and its errors as ours."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka.errors import (
    AuthenticationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)

from extauthz.core.errors import Invalid, Retryable

AWAY: Final = "look at the brokers in KAFKA_BROKERS"
_REFUSED: Final = (
    AuthenticationFailedError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """One topic of one cluster, and how to reach it.

    Args:
        brokers: `host:port`, one or more.
        topic: its dead letters lie in `{topic}.dlq`.
        partitions: least number of them.
        replication: copies of each partition of a topic that is made here.
        retention_seconds: how long a topic that is made here keeps records.
        compression: `none`, `lz4` or `zstd`.
        security_protocol: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
        ca_file: PEM; the system's authorities where it is None.
        certificate_file, key_file: PEM, of this client.
        timeout_seconds: until a broker that does not answer counts as away.
        session_seconds: until a silent consumer loses its partitions.
    """

    brokers: tuple[str, ...]
    topic: str
    partitions: int
    replication: int
    retention_seconds: float
    compression: str
    security_protocol: str
    sasl_mechanism: str
    username: str
    password: str = field(repr=False)
    ca_file: str | None
    certificate_file: str | None
    key_file: str | None
    timeout_seconds: float = 10.0
    session_seconds: float = 6.0

    @property
    def dead_letter_topic(self) -> str:
        return f"{self.topic}.dlq"

    def connection(self) -> dict[str, Any]:
        """Arguments that every client of aiokafka takes. Raises: Invalid."""
        return {
            "bootstrap_servers": list(self.brokers),
            "client_id": "mcp-sentinel",
            "request_timeout_ms": int(self.timeout_seconds * 1000),
            "retry_backoff_ms": 200,
            **self.security(),
        }

    def security(self) -> dict[str, Any]:
        """The part of `connection` that a single connection takes, too. Raises: Invalid."""
        arguments: dict[str, Any] = {"security_protocol": self.security_protocol}
        if self.security_protocol.endswith("SSL"):
            arguments["ssl_context"] = self._tls()
        if self.security_protocol.startswith("SASL"):
            if not self.username or not self.password:
                name = "KAFKA_SASL_USERNAME" if not self.username else "KAFKA_SASL_PASSWORD"
                mend = "set it, or KAFKA_SECURITY_PROTOCOL=SSL"
                raise Invalid(name, f"is not set, and {self.security_protocol} needs it", mend)
            arguments |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return arguments

    def _tls(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise _unreadable("KAFKA_CA_FILE", self.ca_file, error) from error
        if self.certificate_file is not None:
            try:
                context.load_cert_chain(self.certificate_file, self.key_file)
            except (OSError, ssl.SSLError) as error:
                raise _unreadable("KAFKA_CERT_FILE", self.certificate_file, error) from error
        return context


def _unreadable(name: str, path: str | None, error: OSError) -> Invalid:
    return Invalid(name, f"`{path}` cannot be used ({error.strerror or error})", "name a PEM file")


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """A client's errors as ours.

    Args:
        doing: what could not be done, as a part of a sentence.

    Raises:
        Invalid: the brokers refuse the credentials, or a message.
        Retryable: anything else went wrong.
    """
    try:
        yield
    except _REFUSED as error:
        mend = "look at the name and the password"
        raise Invalid("KAFKA_SASL_USERNAME", f"is refused by the brokers ({error})", mend) from (
            error
        )
    except ssl.SSLCertVerificationError as error:
        problem = f"does not verify the brokers ({error.verify_message})"
        raise Invalid("KAFKA_CA_FILE", problem, "name the authority that signed them") from error
    except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
        mend = "raise `max.message.bytes` of the topic to 2097152"
        raise Invalid("", "an event is larger than the topic takes", mend) from error
    except (TopicAuthorizationFailedError, GroupAuthorizationFailedError) as error:
        raise Retryable(f"{doing}: not allowed ({error}); give this user the right") from error
    except TimeoutError as error:
        raise Retryable(f"{doing}: no answer in time; {AWAY}") from error
    except (KafkaError, OSError) as error:
        raise Retryable(f"{doing} ({error}); {AWAY}") from error

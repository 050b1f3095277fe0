"""The backend's settings: one table, read once from the environment."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from backend.controller_settings import ControllerSettings
from extauthz.core import config
from extauthz.core.config import setting
from extauthz.core.errors import Invalid
from extauthz.core.times import parse_duration

PORT_RANGE: Final = (0, 65535)
UNIX: Final = "unix:"  # then a path, relative ones too: those of sockets are short


def _port(value: str) -> int:
    return config.whole(*PORT_RANGE)(value)


def _duration(value: str) -> float:
    return parse_duration(value, "")


def _keys(value: str) -> tuple[str, ...]:
    """Comma- or line-separated, so that a file may hold one a line."""
    return config.comma_list(value.replace("\n", ","))


def _url(*schemes: str) -> Any:
    def read(value: str) -> str:
        parts = urlsplit(value)
        written = f"{parts.scheme}://"
        if not value.startswith(written) or parts.scheme not in schemes:
            known = " or ".join(f"{scheme}:///path" for scheme in schemes)
            raise Invalid("", "is of no known scheme", f"write it like {known}")
        if parts.netloc or not parts.path.strip("/"):
            raise Invalid("", "names no absolute path", f"write it like {written}/path")
        return value

    return read


def _access_url(value: str) -> str:
    if value.startswith("kubernetes://"):
        return value
    try:
        read: str = _url("dir")(value)
    except Invalid as error:
        raise Invalid("", error.problem, f"{error.mend}, or like kubernetes://") from None
    return read


def _kubernetes_url(value: str) -> str:
    if not value.startswith("kubernetes://"):
        raise Invalid("", "is of no known scheme", "write it like kubernetes://")
    return value


def _cluster(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]*", value):
        raise Invalid("", f"`{value[:200]}` is no name of a cluster", "use letters, digits, -_.")
    return value


def _cluster_url(value: str) -> str:
    if not value.removeprefix(UNIX) or not value.startswith(UNIX):
        raise Invalid("", "is of no known scheme", f"write it like {UNIX}path")
    return value


def _store_url(value: str) -> str:
    if not value.startswith("clickhouse://"):
        return str(_url("chdb", "clickhouse")(value))
    if not urlsplit(value).hostname:
        raise Invalid("", "names no host", "write it like clickhouse://host:8123/mcp")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ControllerSettings):
    """What the backend is told at its start; units stand in the names."""

    store_url: str = setting(
        "STORE_URL",
        default="",
        read=_store_url,
        help="Event store: clickhouse://host:8123/mcp or chdb:///path. Needed by processor, api.",
        secret=True,  # it may hold a password
    )
    cluster: str = setting(
        "CLICKHOUSE_CLUSTER",
        default="",
        read=_cluster,
        help="Cluster of ClickHouse servers with Keeper, whose tables are replicated; unset: one.",
    )
    retention_days: int | None = setting(
        "EVENT_RETENTION_DAYS",
        default=None,
        read=config.whole(0, 36_500),
        help="Days that events are kept, none older taken; 0 is for ever; unset: as the store is.",
    )
    access_url: str = setting(
        "ACCESS_URL",
        default="",
        read=_access_url,
        help="Custom resources: dir:///path or kubernetes://[CONTEXT]. Needed by api, controller.",
    )
    change_outbox: str = setting(
        "CHANGE_OUTBOX",
        default="",
        help="File of changes that the event log has not taken; unset: beside the embedded log or "
        "store. Needed by api and controller where both are elsewhere.",
    )
    cluster_url: str = setting(
        "CLUSTER_URL",
        default="",
        read=_cluster_url,
        help="What runs the other components: unix:path, as `sentinel up` sets it; unset: nothing.",
    )
    restart_cooldown_seconds: float = setting(
        "RESTART_COOLDOWN_SECONDS",
        default=30.0,
        read=config.number(0, 3600),
        help="Time between two restarts of a component over HTTP.",
    )
    host: str = setting(
        "HOST",
        default="127.0.0.1",
        help="Address that every port listens on; 0.0.0.0 in a container.",
    )
    port: int | None = setting(
        "PORT",
        default=None,
        read=_port,
        help="HTTP port where a target has only one; else INGEST_PORT and API_PORT.",
    )
    ingest_port: int = setting(
        "INGEST_PORT", default=8081, read=_port, help="Port of ingest; 0 picks a free one."
    )
    api_port: int = setting(
        "API_PORT", default=8080, read=_port, help="Port of the api; 0 picks a free one."
    )
    metrics_port: int | None = setting(
        "METRICS_PORT",
        default=None,
        read=_port,
        help="Port of /metrics, /ready; unset: 9090; ingest 9091, controller 9096, processor 9102.",
    )
    auth: bool = setting(
        "AUTH",
        default=True,
        read=lambda value: config.one_of("on", "off")(value) == "on",
        write=lambda is_on: "on" if is_on else "off",
        help="off lets everybody do everything; only where HOST is a loopback address.",
    )
    api_keys: tuple[str, ...] = setting(
        "API_KEYS",
        default=(),
        read=_keys,
        secret=True,
        help="API keys, comma-separated; admin unless ADMIN_API_KEYS is set.",
    )
    admin_api_keys: tuple[str, ...] = setting(
        "ADMIN_API_KEYS",
        default=(),
        read=_keys,
        secret=True,
        files=("ADMIN_API_KEYS_FILE",),
        help="API keys that are admin: read, govern and operate everywhere.",
    )
    ingest_api_keys: tuple[str, ...] = setting(
        "INGEST_API_KEYS",
        default=(),
        read=_keys,
        secret=True,
        files=("INGEST_API_KEYS_FILE",),
        help="API keys that may send events; unset: API_KEYS.",
    )
    api_keys_file: str = setting(
        "API_KEYS_FILE",
        default="",
        help="YAML or JSON of named keys: scopes, namespaces, SHA-256 (`sentinel keys new`).",
    )
    oidc_issuer: str = setting(
        "OIDC_ISSUER",
        default="",
        help="Issuer of the tokens that count beside API keys, as its provider writes it.",
    )
    oidc_audience: str = setting(
        "OIDC_AUDIENCE", default="", help="What these tokens must name as their audience (aud)."
    )
    oidc_jwks_url: str = setting(
        "OIDC_JWKS_URL",
        default="",
        help="Where the issuer's keys are; unset: where its metadata tells.",
    )
    admin_users: tuple[str, ...] = setting(
        "ADMIN_USERS",
        default=(),
        read=_keys,
        help="Subjects and verified e-mail addresses of tokens that are admin, comma-separated.",
    )
    jwks_allow_loopback_http: bool = setting(
        "JWKS_ALLOW_LOOPBACK_HTTP",
        default=False,
        read=config.flag,
        help="Take keys over http from this machine, as in tests; else https alone.",
    )
    account_tokens: str = setting(
        "SERVICE_ACCOUNT_TOKENS",
        default="",
        read=_kubernetes_url,
        help="Cluster whose sidecars send events with their own tokens: kubernetes://[CONTEXT].",
    )
    account_audience: str = setting(
        "SERVICE_ACCOUNT_AUDIENCE",
        default="mcp-sentinel-ingest",
        help="What these tokens must name as their audience (aud).",
    )
    max_age_days: int = setting(
        "INGEST_MAX_AGE_DAYS",
        default=31,
        read=config.whole(1, 36_500),
        help="Age of the oldest events that ingest takes; EVENT_RETENTION_DAYS where that is less.",
    )
    max_request_bytes: int = setting(
        "INGEST_MAX_REQUEST_BYTES",
        default=16 << 20,
        read=config.whole(1 << 20, 1 << 30),
        help="Largest request of several events that ingest reads, inflated.",
    )
    max_held_bytes: int = setting(
        "INGEST_MAX_HELD_BYTES",
        default=256 << 20,
        read=config.whole(4 << 20),
        help="Most bytes of requests being answered; more are answered 503.",
    )
    ingest_wait_seconds: float = setting(
        "INGEST_WAIT_SECONDS",
        default=5.0,
        read=config.number(0.1, 600),
        help="Longest wait for the event log before a request is answered 503.",
    )
    batch_size: int = setting(
        "BATCH_SIZE",
        default=10_000,
        read=config.whole(1, 500_000),
        help="Events at which the processor inserts at once.",
    )
    flush_seconds: float = setting(
        "FLUSH_INTERVAL",
        default=1.0,
        read=_duration,
        write=lambda seconds: f"{config.show(seconds)}s",
        help="Longest wait of an event for its batch, like 2s.",
    )
    max_dead_letters: int = setting(
        "MAX_DEAD_LETTERS",
        default=1_000,
        read=config.whole(0),
        help="Records set aside in DEAD_LETTER_WINDOW_SECONDS beyond which the processor stops.",
    )
    dead_letter_window_seconds: float = setting(
        "DEAD_LETTER_WINDOW_SECONDS",
        default=600.0,
        read=config.number(1),
        help="Time in which dead letters are counted for MAX_DEAD_LETTERS.",
    )
    drain_seconds: float = setting(
        "DRAIN_SECONDS",
        default=15.0,
        read=config.number(0, 3600),
        help="Time for all components together to finish on SIGTERM.",
    )
    log_level: str = setting(
        "LOG_LEVEL",
        default="info",
        read=config.one_of("debug", "info", "warning", "error"),
        help="Least severe level that is logged.",
    )

    @property
    def max_age_seconds(self) -> float:
        """Of events that ingest takes."""
        return 86_400.0 * min(self.max_age_days, self.retention_days or self.max_age_days)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the ports."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

"""The part of the decision point's settings that says what becomes of events."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from extauthz.core import config
from extauthz.core.config import setting
from extauthz.emitter import EmitterOptions

INGEST_TOKEN: Final = "MCP_SENTINEL_INGEST_TOKEN_FILE"  # noqa: S105  # a setting's name
_EMITTER: Final = EmitterOptions(ingest_url="", spool_folder=Path())  # their defaults are ours


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """Where events go, who sends them, and the bounds; units stand in the names."""

    ingest_url: str = setting(
        "MCP_SENTINEL_INGEST_URL",
        "ANALYTICS_INGEST_URL",
        read=config.http_url,
        help="Where events are sent, with its path, such as http://127.0.0.1:8081/events.",
    )
    api_key: str = setting(
        "MCP_SENTINEL_API_KEY",
        "ANALYTICS_API_KEY",
        default="",
        secret=True,
        files=("MCP_SENTINEL_API_KEY_FILE", "ANALYTICS_API_KEY_FILE"),
        help="Key sent to ingest; or in a file, MCP_SENTINEL_API_KEY_FILE.",
    )
    ingest_token_file: Path | None = setting(  # noqa: RUF009  # an immutable default
        INGEST_TOKEN,
        default=None,
        read=Path,
        help="A projected service-account token for ingest, in place of a key; read as it rotates.",
    )
    arguments_digest_key: str = setting(
        "ARGUMENTS_DIGEST_KEY",
        default="",
        secret=True,
        files=("ARGUMENTS_DIGEST_KEY_FILE",),
        help="Keys `arguments_digest`, so that nobody can guess arguments from it; or in a file.",
    )
    event_source: str = setting(
        "MCP_SENTINEL_SOURCE",
        "ANALYTICS_SOURCE",
        default=_EMITTER.source,
        help="The source that events name.",
    )
    event_type: str = setting(
        "MCP_SENTINEL_EVENT_TYPE",
        "ANALYTICS_EVENT_TYPE",
        default=_EMITTER.call_event_type,
        help="The type of the event of a call.",
    )
    gateway_name: str = setting(
        "GATEWAY_NAME",
        "HOSTNAME",
        default="sidecar",
        help="This gateway's name in events; the pod's name on a cluster.",
    )
    spool_dir: Path = setting(  # noqa: RUF009  # an immutable default
        "SPOOL_DIR",
        default=Path("/var/spool/sentinel"),
        read=Path,
        help="Folder for events that ingest has not taken, on a disk that outlives the process.",
    )
    spool_max_bytes: int = setting(
        "SPOOL_MAX_BYTES",
        default=_EMITTER.spool_max_bytes,
        read=config.whole(1024 * 1024),
        help="Most bytes of spooled events.",
    )
    audit_mode: str = setting(
        "AUDIT_MODE",
        default="besteffort",
        read=config.one_of("besteffort", "durable"),
        help="durable: a call is on disk before its answer leaves, and denied where it cannot be.",
    )
    undecided_log: Path | None = setting(  # noqa: RUF009  # an immutable default
        "UNDECIDED_LOG",
        default=None,
        read=Path,
        help="Envoy's file of requests without a decision. Blank: undecided.jsonl in SPOOL_DIR.",
    )
    undecided_max_bytes: int = setting(
        "UNDECIDED_MAX_BYTES",
        default=64 * 1024 * 1024,
        read=config.whole(1024 * 1024),
        help="Most bytes of it that wait for ingest; the oldest lines beyond become a gap.",
    )
    queue_max_events: int = setting(
        "QUEUE_MAX_EVENTS",
        default=_EMITTER.queue_max_events,
        read=config.whole(100, 10_000_000),
        help="Most events held in memory.",
    )
    completion_wait_seconds: float = setting(
        "COMPLETION_WAIT_SECONDS",
        default=_EMITTER.completion_wait_seconds,
        read=config.number(0, 60),
        help="How long an event waits for the call's outcome.",
    )
    flush_seconds: float = setting(
        "FLUSH_SECONDS",
        default=_EMITTER.flush_seconds,
        read=config.number(0.01, 2),
        help="How long events gather before they are sent; at most COMPLETION_WAIT_SECONDS.",
    )
    heartbeat_seconds: float = setting(
        "HEARTBEAT_SECONDS",
        default=_EMITTER.heartbeat_seconds,
        read=config.number(0.1, 3600),
        help="Time between two gateway.heartbeat events.",
    )

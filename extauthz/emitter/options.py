"""What the emitter is told at its start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from extauthz.core.events import EventType


@dataclass(frozen=True, slots=True)
class EmitterOptions:
    """Where events go, who sends them, and the bounds.

    Args:
        ingest_url: where to POST events, the path included (`http://ingest:8081/events`).
        spool_folder: a folder of this process's own, on a disk that outlives it.
        api_key: sent as `x-api-key`; empty sends none. Never shown.
        token_file: holds a bearer token, read anew for each request, for it rotates.
        digest_key: for `arguments_digest`; empty leaves it a plain hash. Never shown.
        gateway: name of this gateway, such as the pod's.
        server, namespace, cluster: the governed MCP server.
        source: `source` of each event.
        call_event_type: `event_type` of a call.
        versions: names to versions of what runs here, told in `gateway.start`.
        durable: a call is on disk before `record` returns, or its decision is a denial.
        spool_max_bytes: size of the spool's database; its log adds a few MiB (16 must be there).
        journal_max_bytes: size of the journal (durable), beside the spool.
        queue_max_events: events held in memory.
        completion_wait_seconds: how long an allowed call waits for its outcome.
        heartbeat_seconds: time between two `gateway.heartbeat`.
        flush_seconds: how long events gather before they leave together; at most
            `completion_wait_seconds`. At least Envoy's flush of the access log (0.2 s), so that
            denials are joined with their outcome.
        batch_max_events, batch_max_bytes: one request to ingest; one large event may exceed.
        request_timeout_seconds: one request to ingest.
        slow_seconds: a request under way for longer sends what comes after it to disk.
        retry_max_seconds: longest pause between two tries.
    """

    ingest_url: str
    spool_folder: Path
    api_key: str = field(default="", repr=False)
    token_file: Path | None = None
    digest_key: bytes = field(default=b"", repr=False)
    gateway: str = ""
    server: str = ""
    namespace: str = ""
    cluster: str = ""
    source: str = "mcp-proxy"
    call_event_type: str = EventType.REQUEST.value
    versions: Mapping[str, str] = field(default_factory=dict)
    durable: bool = False
    spool_max_bytes: int = 256 * 1024 * 1024
    journal_max_bytes: int = 64 * 1024 * 1024
    queue_max_events: int = 20_000
    completion_wait_seconds: float = 1.0
    heartbeat_seconds: float = 30.0
    flush_seconds: float = 0.25
    batch_max_events: int = 500
    batch_max_bytes: int = 1024 * 1024
    request_timeout_seconds: float = 10.0
    slow_seconds: float = 2.0
    retry_max_seconds: float = 5.0

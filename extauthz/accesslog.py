"""Envoy's gRPC access log, read into the outcomes of decisions."""

from collections.abc import AsyncIterator
from typing import Protocol

from extauthz.core.events import Outcome
from protos.gen.access_log_data_pb2 import (
    AccessLogCommon,
    AccessLogType,
    HTTPAccessLogEntry,
    ResponseFlags,
)
from protos.gen.access_log_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from protos.gen.access_log_pb2_grpc import AccessLogServiceServicer

EXT_AUTHZ = "envoy.filters.http.ext_authz"  # the namespace that Check's metadata lands in

# Envoy's short names, as in its %RESPONSE_FLAGS%.
_SHORT = {
    "failed_local_healthcheck": "LH",
    "no_healthy_upstream": "UH",
    "upstream_request_timeout": "UT",
    "local_reset": "LR",
    "upstream_remote_reset": "UR",
    "upstream_connection_failure": "UF",
    "upstream_connection_termination": "UC",
    "upstream_overflow": "UO",
    "no_route_found": "NR",
    "delay_injected": "DI",
    "fault_injected": "FI",
    "rate_limited": "RL",
    "unauthorized_details": "UAEX",
    "rate_limit_service_error": "RLSE",
    "downstream_connection_termination": "DC",
    "upstream_retry_limit_exceeded": "URX",
    "stream_idle_timeout": "SI",
    "invalid_envoy_request_headers": "IH",
    "downstream_protocol_error": "DPE",
    "upstream_max_stream_duration_reached": "UMSDR",
    "response_from_cache_filter": "RFCF",
    "no_filter_config_found": "NFCF",
    "duration_timeout": "DT",
    "upstream_protocol_error": "UPE",
    "no_cluster_found": "NC",
    "overload_manager": "OM",
    "dns_resolution_failure": "DF",
    "downstream_remote_reset": "DR",
}
# Entries that Envoy writes while a call still runs, where it is told to.
_UNFINISHED = frozenset(
    {
        AccessLogType.DownstreamStart,
        AccessLogType.DownstreamPeriodic,
        AccessLogType.UpstreamPoolReady,
        AccessLogType.UpstreamPeriodic,
    }
)


class OutcomeLog(Protocol):
    """Where outcomes go."""

    def outcome(self, decision_id: str, outcome: Outcome) -> None:
        """Join the outcome to its decision. Never blocks, never raises."""


class AccessLogReceiver(AccessLogServiceServicer):
    """Takes Envoy's access log; each entry with a decision becomes an outcome.

    Entries without one are counted and left: what never reached Check comes from Envoy's file log.
    """

    def __init__(self, audit: OutcomeLog) -> None:
        self._audit = audit
        self.joined = 0
        self.undecided = 0

    async def StreamAccessLogs(  # noqa: N802  # the name on the wire
        self, request_iterator: AsyncIterator[StreamAccessLogsMessage], context: object
    ) -> StreamAccessLogsResponse:
        async for message in request_iterator:
            for entry in message.http_logs.log_entry:
                self._take(entry)
        return StreamAccessLogsResponse()

    def _take(self, entry: HTTPAccessLogEntry) -> None:
        common = entry.common_properties
        if common.access_log_type in _UNFINISHED:
            return
        decision_id = _decision_id(common)
        if decision_id:
            self.joined += 1
            self._audit.outcome(decision_id, to_outcome(entry))
        else:
            self.undecided += 1


def to_outcome(entry: HTTPAccessLogEntry) -> Outcome:
    """Read how a call ended; body bytes only, latency to the last byte sent."""
    common = entry.common_properties
    last = "time_to_last_downstream_tx_byte"
    # A call that was cut before anything was sent has a duration only.
    latency = getattr(common, last) if common.HasField(last) else common.duration
    return Outcome(
        status=entry.response.response_code.value,
        latency_ms=latency.seconds * 1e3 + latency.nanos / 1e6,
        bytes_in=entry.request.request_body_bytes,
        bytes_out=entry.response.response_body_bytes,
        response_flags=short_flags(common.response_flags),
    )


def short_flags(flags: ResponseFlags) -> str:
    """Envoy's short names of the flags that are set, comma-separated."""
    return ",".join(_SHORT[field.name] for field, _ in flags.ListFields())


def _decision_id(common: AccessLogCommon) -> str:
    """The decision's id; reading a map's absent key would add it, hence the question first."""
    by_filter = common.metadata.filter_metadata
    if EXT_AUTHZ not in by_filter or "decision_id" not in by_filter[EXT_AUTHZ].fields:
        return ""
    return by_filter[EXT_AUTHZ].fields["decision_id"].string_value

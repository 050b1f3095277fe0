"""The access logs. Each request is in exactly one of the sidecar's two."""

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.core.v3 import (
    GrpcService,
    GrpcServiceEnvoyGrpc,
    SubstitutionFormatString,
)
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.access_loggers.open_telemetry.v3 import (
    OpenTelemetryAccessLogConfig,
)
from envoy_data_plane.google.protobuf import Any, Struct
from envoy_data_plane.opentelemetry.proto.common.v1 import AnyValue

from envoy_bootstrap.clusters import CHECK
from envoy_bootstrap.typed import (
    DECISION_KEY,
    DECISION_NAMESPACE,
    decided,
    seconds,
    undecided,
)

# No header but these two, no query: tokens travel in both. The caller's strings are capped.
LINE = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "method": "%REQUEST_HEADER(:METHOD):32%",
    "path": "%PATH(NQ:PATH):1024%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "request_id": "%REQUEST_HEADER(X-REQUEST-ID):64%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "peer": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "protocol": "%PROTOCOL%",
    "traceparent": "%REQUEST_HEADER(TRACEPARENT):64%",
}

# How a decided call ended, as `extauthz/accesslog.py` reads it. Nothing in it is the caller's.
OUTCOME = (
    f"%DYNAMIC_METADATA({DECISION_NAMESPACE}:{DECISION_KEY})%",
    "%RESPONSE_CODE%",
    "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    "%DURATION%",
    "%BYTES_RECEIVED%",
    "%BYTES_SENT%",
    "%RESPONSE_FLAGS%",
)
OUTCOMES_BYTES = 256 << 10  # lines held back at most; those of 0.2 s seldom reach it


def check_service(timeout: float | None = None) -> GrpcService:
    """The decision point as a gRPC service.

    Args:
        timeout: seconds for one call; none for a stream.
    """
    grpc = GrpcServiceEnvoyGrpc(
        cluster_name=CHECK, skip_envoy_headers=True, max_receive_message_length=1 << 20
    )
    return GrpcService(envoy_grpc=grpc, timeout=None if timeout is None else seconds(timeout))


def decided_log() -> AccessLog:
    """What became of each decided request, to the decision point itself.

    As OpenTelemetry logs, of which we choose the content: Envoy's own gRPC log costs both sides
    several times as much.
    """
    config = OpenTelemetryAccessLogConfig(
        grpc_service=check_service(timeout=5.0),
        log_name="mcp",
        disable_builtin_labels=True,
        body=AnyValue(string_value=" ".join(OUTCOME)),
        buffer_flush_interval=seconds(0.2),
        buffer_size_bytes=OUTCOMES_BYTES,
    )
    return AccessLog(
        name="envoy.access_loggers.open_telemetry", filter=decided(), typed_config=Any.pack(config)
    )


def undecided_log(path: str) -> AccessLog:
    """What got no decision, to a file: it is there although the decision point is not."""
    log = _file(path, LINE)
    log.filter = undecided()
    return log


def gateway_log(path: str) -> AccessLog:
    """Every request, with the service that it went to."""
    return _file(path, {"service": "%UPSTREAM_CLUSTER%"} | LINE)


def _file(path: str, line: dict[str, str]) -> AccessLog:
    log_format = SubstitutionFormatString(json_format=Struct.from_dict(line))
    config = FileAccessLog(path=path, log_format=log_format)
    return AccessLog(name="envoy.access_loggers.file", typed_config=Any.pack(config))

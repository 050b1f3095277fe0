"""The access logs. Each request is in exactly one of the sidecar's two."""

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    SubstitutionFormatString,
)
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.access_loggers.grpc.v3 import (
    CommonGrpcAccessLogConfig,
    HttpGrpcAccessLogConfig,
)
from envoy_data_plane.google.protobuf import Any, Struct

from envoy_bootstrap.clusters import CHECK
from envoy_bootstrap.typed import decided, seconds, undecided

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
    """What became of each decided request, to the decision point itself."""
    config = HttpGrpcAccessLogConfig(
        common_config=CommonGrpcAccessLogConfig(
            log_name="mcp",
            grpc_service=check_service(),
            transport_api_version=ApiVersion.V3,
            buffer_flush_interval=seconds(0.2),
        )
    )
    return AccessLog(
        name="envoy.access_loggers.http_grpc", filter=decided(), typed_config=Any.pack(config)
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

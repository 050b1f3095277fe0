"""HTTP hygiene that both bootstraps share: what is refused, stripped and bounded."""

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import (
    HeaderMutation,
    HeaderMutationRemoveOnMatch,
)
from envoy_data_plane.envoy.config.core.v3 import (
    CidrRange,
    Http1ProtocolOptions,
    Http1ProtocolOptionsHeaderKeyFormat,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    HttpProtocolOptionsHeadersWithUnderscoresAction,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerInternalAddressConfig,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpConnectionManagerServerHeaderTransformation,
    HttpFilter,
    RequestIdExtension,
)
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy_data_plane.envoy.extensions.http.header_formatters.preserve_case.v3 import (
    PreserveCaseFormatterConfig,
)
from envoy_data_plane.envoy.extensions.request_id.uuid.v3 import UuidRequestIdConfig
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any

from envoy_bootstrap.options import ListenerOptions
from envoy_bootstrap.typed import extension, seconds

# A server that honours one of these would run another method than the one decided upon.
METHOD_OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")

# Envoy's own additions, taken off again on the way to the server.
ENVOY_REQUEST_HEADERS = (
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-attempt-count",
    "x-envoy-original-path",
)

HEADERS_KIB = 60
HEADERS_COUNT = 100


def http1(*, ignore_tls_upgrade: bool = False) -> Http1ProtocolOptions:
    """Strict HTTP/1.1 with header names and reason phrases as they were sent.

    What is not set here keeps a strict default: no HTTP/1.0, no Content-Length beside
    Transfer-Encoding, no unknown methods, no trailers.

    Args:
        ignore_tls_upgrade: drop the offer `Upgrade: TLS/1.x` that some Java clients
            make on every request; a server may ignore it (RFC 9110, section 7.8).
    """
    case = PreserveCaseFormatterConfig(forward_reason_phrase=True)
    formatter = extension("envoy.http.stateful_header_formatters.preserve_case", case)
    return Http1ProtocolOptions(
        header_key_format=Http1ProtocolOptionsHeaderKeyFormat(stateful_formatter=formatter),
        allow_chunked_length=False,
        ignore_http_11_upgrade=[StringMatcher(prefix="TLS/")] if ignore_tls_upgrade else [],
    )


def router() -> HttpFilter:
    """The last filter; adds no `x-envoy-…` header in either direction."""
    config = Router(suppress_envoy_headers=True, reject_connect_request_early_data=True)
    return HttpFilter(name="envoy.filters.http.router", typed_config=Any.pack(config))


def connection_manager(options: ListenerOptions, name: str) -> HttpConnectionManager:
    """The connection manager without routes, filters, replies and logs."""
    request_id = UuidRequestIdConfig(
        pack_trace_reason=False, use_request_id_for_trace_sampling=False
    )
    return HttpConnectionManager(
        stat_prefix=name,
        # Who is asking: the peer, not what a header says.
        use_remote_address=True,
        xff_num_trusted_hops=options.trusted_hops,
        internal_address_config=_nobody_internal(),
        early_header_mutation_extensions=[_strip()],
        generate_request_id=True,
        request_id_extension=RequestIdExtension(typed_config=Any.pack(request_id)),
        always_set_request_id_in_response=True,
        # One path, read in one way.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=HttpConnectionManagerPathWithEscapedSlashesAction.REJECT_REQUEST,
        # One reading of the protocol.
        common_http_protocol_options=HttpProtocolOptions(
            headers_with_underscores_action=HttpProtocolOptionsHeadersWithUnderscoresAction.REJECT_REQUEST,
            max_headers_count=HEADERS_COUNT,
            idle_timeout=seconds(3600),
        ),
        http_protocol_options=http1(ignore_tls_upgrade=True),
        http2_protocol_options=Http2ProtocolOptions(
            max_concurrent_streams=100,
            initial_stream_window_size=65536,
            initial_connection_window_size=1 << 20,
            override_stream_error_on_invalid_http_message=True,
        ),
        max_request_headers_kb=HEADERS_KIB,
        # Slow clients.
        request_headers_timeout=seconds(10),
        request_timeout=seconds(options.request_seconds),
        stream_idle_timeout=seconds(options.stream_idle_seconds),
        stream_flush_timeout=seconds(300),
        drain_timeout=seconds(5),
        # Answers as the server gave them.
        server_header_transformation=HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH,
    )


def _nobody_internal() -> HttpConnectionManagerInternalAddressConfig:
    """Believe no peer's `x-request-id` or `x-envoy-…`, not even from loopback.

    An empty list would mean the private networks; broadcast is nobody's address.
    """
    nobody = CidrRange(address_prefix="255.255.255.255", prefix_len=32)
    return HttpConnectionManagerInternalAddressConfig(cidr_ranges=[nobody])


def _strip() -> TypedExtensionConfig:
    """Take off what only Envoy may say, before anything reads the request."""
    forged = HeaderMutationRemoveOnMatch(
        key_matcher=StringMatcher(prefix="x-envoy-", ignore_case=True)
    )
    mutations = [HeaderMutation(remove_on_match=forged)]
    mutations += [HeaderMutation(remove=name) for name in METHOD_OVERRIDES]
    return extension(
        "envoy.http.early_header_mutation.header_mutation", EarlyHeaderMutation(mutations=mutations)
    )

"""Where Envoy connects to: the decision point, the MCP server, the services."""

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    DataSource,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    TransportSocket,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions as UpstreamOptions,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any

from envoy_bootstrap.options import Upstream, is_address
from envoy_bootstrap.typed import seconds, socket_file, tcp

CHECK = "check"

# Decisions in flight. Each holds a request body, so this stays bounded on its own.
CHECK_REQUESTS = 1024
_BUFFER_BYTES = 65536


def check_cluster(socket: str) -> Cluster:
    """The decision point: Check and the access log, over one Unix socket."""
    http2 = HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
    return _cluster(
        CHECK,
        socket_file(socket),
        ClusterDiscoveryType.STATIC,
        UpstreamOptions(explicit_http_config=http2),
        connect=1.0,
        connections=CHECK_REQUESTS,
    )


def http_cluster(
    name: str,
    upstream: Upstream,
    *,
    connections: int,
    connect: float,
    idle: float,
    codec: Http1ProtocolOptions,
    ca_file: str = "",
) -> Cluster:
    """An HTTP/1.1 server.

    Args:
        connections: at most so many; an event stream of HTTP/1 holds one for its life.
        connect: seconds to connect in.
        idle: seconds after which an unused connection is closed. A server that closes
            first would do so under a call that is just being sent.
        ca_file: authorities that a TLS server is checked by.
    """
    http1 = HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=codec)
    cluster = _cluster(
        name,
        _address(upstream),
        _discovery(upstream),
        UpstreamOptions(
            common_http_protocol_options=HttpProtocolOptions(idle_timeout=seconds(idle)),
            explicit_http_config=http1,
        ),
        connect=connect,
        connections=connections,
    )
    if upstream.tls:
        cluster.transport_socket = _tls(upstream.host, ca_file)
    return cluster


def _cluster(
    name: str,
    address: Address,
    discovery: ClusterDiscoveryType,
    options: UpstreamOptions,
    *,
    connect: float,
    connections: int,
) -> Cluster:
    endpoint = LbEndpoint(endpoint=Endpoint(address=address))
    limits = CircuitBreakersThresholds(
        max_connections=connections,
        max_pending_requests=connections,
        max_requests=connections,
        max_retries=0,
    )
    return Cluster(
        name=name,
        type=discovery,
        connect_timeout=seconds(connect),
        dns_lookup_family=ClusterDnsLookupFamily.V4_PREFERRED
        if discovery is ClusterDiscoveryType.STRICT_DNS
        else ClusterDnsLookupFamily(0),
        per_connection_buffer_limit_bytes=_BUFFER_BYTES,
        circuit_breakers=CircuitBreakers(thresholds=[limits]),
        load_assignment=ClusterLoadAssignment(
            cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": Any.pack(options)
        },
    )


def _address(upstream: Upstream) -> Address:
    if upstream.socket:
        return socket_file(upstream.socket)
    return tcp(upstream.host, upstream.port)


def _discovery(upstream: Upstream) -> ClusterDiscoveryType:
    if upstream.socket or is_address(upstream.host):
        return ClusterDiscoveryType.STATIC
    return ClusterDiscoveryType.STRICT_DNS


def _tls(host: str, ca_file: str) -> TransportSocket:
    address = is_address(host)
    san = SubjectAltNameMatcherSanType.IP_ADDRESS if address else SubjectAltNameMatcherSanType.DNS
    validation = CertificateValidationContext(
        trusted_ca=DataSource(filename=ca_file),
        match_typed_subject_alt_names=[
            SubjectAltNameMatcher(san_type=san, matcher=StringMatcher(exact=host))
        ],
    )
    context = UpstreamTlsContext(
        sni="" if address else host,
        common_tls_context=CommonTlsContext(
            validation_context=validation, alpn_protocols=["http/1.1"]
        ),
    )
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=Any.pack(context))

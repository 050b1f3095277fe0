"""The Envoy in front of one MCP server: every request is decided before it passes."""

import ipaddress
from collections.abc import Iterable

from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap
from envoy_data_plane.envoy.config.core.v3 import ApiVersion
from envoy_data_plane.envoy.config.route.v3 import (
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import BufferSettings, ExtAuthz
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import ListStringMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.protobuf import Any

from envoy_bootstrap.bootstrap import bootstrap
from envoy_bootstrap.clusters import check_cluster, http_cluster
from envoy_bootstrap.http import ENVOY_REQUEST_HEADERS, connection_manager, http1, router
from envoy_bootstrap.logs import check_service, decided_log, undecided_log
from envoy_bootstrap.options import SidecarOptions
from envoy_bootstrap.replies import rpc_replies
from envoy_bootstrap.typed import seconds

_SERVER = "mcp-server"
# What no decision rests on stays away from it: each header costs both sides. Not on the list is
# whatever could carry identity, a token or meaning. Method, path and host travel beside these.
UNASKED_HEADERS = (
    *(":authority", ":method", ":path", ":scheme"),
    *("accept", "accept-encoding", "accept-language", "content-length", "user-agent"),
    *("sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site"),
    *("x-envoy-external-address", "x-forwarded-for", "x-forwarded-proto"),
)
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


def sidecar(options: SidecarOptions) -> Bootstrap:
    """Build the sidecar's bootstrap."""
    manager = connection_manager(options, "mcp")
    manager.route_config = _routes(options)
    manager.http_filters = [_ext_authz(options), router()]
    manager.local_reply_config = rpc_replies()
    manager.access_log = [decided_log(), undecided_log(options.undecided_log)]
    server = http_cluster(
        _SERVER,
        options.upstream,
        connections=options.max_connections,
        connect=options.connect_seconds,
        idle=options.upstream_idle_seconds,
        codec=http1(),
        ca_file=options.upstream_ca_file,
    )
    return bootstrap("sidecar", options, manager, [server, check_cluster(options.check_socket)])


def _ext_authz(options: SidecarOptions) -> HttpFilter:
    config = ExtAuthz(
        transport_api_version=ApiVersion.V3,
        grpc_service=check_service(options.check_seconds),
        with_request_body=BufferSettings(
            max_request_bytes=options.max_request_bytes,
            allow_partial_message=False,
            pack_as_bytes=True,
        ),
        failure_mode_allow=False,
        # The default, 403, would hide an outage as a denial.
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        encode_raw_headers=True,
        disallowed_headers=ListStringMatcher(
            patterns=[StringMatcher(exact=name) for name in UNASKED_HEADERS]
        ),
        validate_mutations=True,
        clear_route_cache=False,
    )
    return HttpFilter(name="envoy.filters.http.ext_authz", typed_config=Any.pack(config))


def _routes(options: SidecarOptions) -> RouteConfiguration:
    config = RouteConfiguration(name="mcp", request_headers_to_remove=[*ENVOY_REQUEST_HEADERS])
    if options.host_rewrite and ipaddress.ip_address(options.listen_address).is_loopback:
        # Who reaches loopback by another name is a web page whose name was made to point here
        # (DNS rebinding). Rewritten, the server would take it for its own; as sent, it refuses it.
        config.ignore_port_in_host_matching = True
        config.virtual_hosts = [
            _host("mcp", _LOOPBACK_NAMES, options.host_rewrite),
            _host("foreign", "*"),
        ]
    else:
        config.virtual_hosts = [_host("mcp", "*", options.host_rewrite)]
    return config


def _host(name: str, domains: Iterable[str], rewrite: str = "") -> VirtualHost:
    # One route for everything: no path is exempt. A legacy event stream has no end,
    # hence no timeout; a call is not repeated, for it may have had its effect.
    action = RouteAction(cluster=_SERVER, timeout=seconds(0))
    if rewrite:
        action.host_rewrite_literal = rewrite
    route = Route(match=RouteMatch(prefix="/"), route=action)
    return VirtualHost(name=name, domains=[*domains], routes=[route])

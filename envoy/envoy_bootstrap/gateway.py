"""The Envoy in front of the services: ui (which carries /api) and ingest."""

from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap
from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)

from envoy_bootstrap.bootstrap import bootstrap
from envoy_bootstrap.clusters import http_cluster
from envoy_bootstrap.http import ENVOY_REQUEST_HEADERS, connection_manager, http1, router
from envoy_bootstrap.logs import gateway_log
from envoy_bootstrap.options import GatewayOptions
from envoy_bootstrap.replies import problem_replies
from envoy_bootstrap.typed import seconds


def gateway(options: GatewayOptions) -> Bootstrap:
    """Build the gateway's bootstrap."""
    manager = connection_manager(options, "gateway")
    manager.route_config = _routes(options)
    manager.http_filters = [router()]
    manager.local_reply_config = problem_replies()
    manager.access_log = [gateway_log(options.access_log)]
    clusters = [
        http_cluster(
            name,
            upstream,
            connections=options.max_connections,
            connect=5.0,
            idle=4.0,
            codec=http1(),
        )
        for name, upstream in (("ui", options.ui), ("ingest", options.ingest))
    ]
    return bootstrap("gateway", options, manager, clusters)


def _routes(options: GatewayOptions) -> RouteConfiguration:
    limit = seconds(options.response_seconds)
    ping = DirectResponseAction(status=200, body=DataSource(inline_string="OK\n"))
    routes = [
        Route(match=RouteMatch(path="/ping"), direct_response=ping),
        Route(
            match=RouteMatch(path="/ingest"),
            route=RouteAction(cluster="ingest", prefix_rewrite="/", timeout=limit),
        ),
        Route(
            match=RouteMatch(prefix="/ingest/"),
            route=RouteAction(cluster="ingest", prefix_rewrite="/", timeout=limit),
        ),
        Route(match=RouteMatch(prefix="/"), route=RouteAction(cluster="ui", timeout=limit)),
    ]
    return RouteConfiguration(
        name="gateway",
        virtual_hosts=[VirtualHost(name="gateway", domains=["*"], routes=routes)],
        request_headers_to_remove=list(ENVOY_REQUEST_HEADERS),
    )

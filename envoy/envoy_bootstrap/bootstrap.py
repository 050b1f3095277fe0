"""The frame of a bootstrap: listener, admin, overload manager."""

from collections.abc import Sequence

from envoy_data_plane.envoy.config.bootstrap.v3 import (
    Admin,
    Bootstrap,
    BootstrapStaticResources,
)
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import Node
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.overload.v3 import (
    BufferFactoryConfig,
    OverloadAction,
    OverloadManager,
    ResourceMonitor,
    ScaledTrigger,
    ThresholdTrigger,
    Trigger,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections.v3 import (
    DownstreamConnectionsConfig,
)
from envoy_data_plane.envoy.extensions.resource_monitors.fixed_heap.v3 import FixedHeapConfig
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any

from envoy_bootstrap.options import ListenerOptions
from envoy_bootstrap.typed import seconds, socket_file, tcp

# What the admin answers to: reading, and the two ways to drain. Nothing that ends
# Envoy, changes its log level or profiles it.
ADMIN_READ = ("/ready", "/server_info", "/listeners", "/clusters", "/config_dump", "/certs")
ADMIN_DRAIN = ("/drain_listeners", "/healthcheck/fail", "/healthcheck/ok")

_HEAP = "envoy.resource_monitors.fixed_heap"
_CONNECTIONS = "envoy.resource_monitors.global_downstream_max_connections"


def bootstrap(
    name: str,
    options: ListenerOptions,
    manager: HttpConnectionManager,
    clusters: Sequence[Cluster],
) -> Bootstrap:
    """Put one listener, its clusters and the safety around them together."""
    return Bootstrap(
        node=Node(id=name, cluster="mcp-sentinel"),
        static_resources=BootstrapStaticResources(
            listeners=[_listener(name, options, manager)], clusters=list(clusters)
        ),
        admin=_admin(options.admin_socket),
        overload_manager=_overload(options),
    )


def _listener(name: str, options: ListenerOptions, manager: HttpConnectionManager) -> Listener:
    http = Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=Any.pack(manager)
    )
    return Listener(
        name=name,
        address=tcp(options.listen_address, options.listen_port),
        filter_chains=[FilterChain(filters=[http])],
        per_connection_buffer_limit_bytes=65536,
        # Otherwise a second process of the same user could bind the port beside us
        # and take a share of the calls; and a taken port would go unnoticed.
        enable_reuse_port=False,
    )


def _admin(path: str) -> Admin:
    allowed = [StringMatcher(exact=each) for each in ADMIN_READ]
    allowed += [StringMatcher(prefix=each) for each in (*ADMIN_DRAIN, "/stats")]
    return Admin(
        address=socket_file(path, 0o600),
        # Still to be reached when the limit below is.
        ignore_global_conn_limit=True,
        allow_paths=allowed,
    )


def _overload(options: ListenerOptions) -> OverloadManager:
    heap = FixedHeapConfig(max_heap_size_bytes=options.max_heap_bytes)
    connections = DownstreamConnectionsConfig(
        max_active_downstream_connections=options.max_connections
    )
    return OverloadManager(
        refresh_interval=seconds(0.25),
        resource_monitors=[
            ResourceMonitor(name=_HEAP, typed_config=Any.pack(heap)),
            ResourceMonitor(name=_CONNECTIONS, typed_config=Any.pack(connections)),
        ],
        actions=[
            _action("shrink_heap", ThresholdTrigger(value=0.9)),
            # The largest buffered bodies go first.
            _action(
                "reset_high_memory_stream",
                ScaledTrigger(scaling_threshold=0.92, saturation_threshold=0.98),
            ),
            _action("stop_accepting_requests", ThresholdTrigger(value=0.95)),
        ],
        # Streams count from 1 MiB on.
        buffer_factory_config=BufferFactoryConfig(minimum_account_to_track_power_of_two=20),
    )


def _action(name: str, when: ThresholdTrigger | ScaledTrigger) -> OverloadAction:
    trigger = Trigger(name=_HEAP)
    if isinstance(when, ThresholdTrigger):
        trigger.threshold = when
    else:
        trigger.scaled = when
    return OverloadAction(name=f"envoy.overload_actions.{name}", triggers=[trigger])

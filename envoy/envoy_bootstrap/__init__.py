"""Envoy's bootstraps, built with types: the sidecar's and the gateway's."""

from envoy_bootstrap.gateway import gateway
from envoy_bootstrap.options import GatewayOptions, SidecarOptions, Upstream
from envoy_bootstrap.render import to_json, to_yaml
from envoy_bootstrap.sidecar import sidecar

__all__ = [
    "GatewayOptions",
    "SidecarOptions",
    "Upstream",
    "gateway",
    "sidecar",
    "to_json",
    "to_yaml",
]

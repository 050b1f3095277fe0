"""The part of the backend's settings that is the controller's."""

from dataclasses import dataclass
from typing import Final

from backend.event_log_settings import EventLogSettings
from extauthz.core import config
from extauthz.core.config import setting

PORT: Final = 8086


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings(EventLogSettings):
    """What the controller is told, beside the event log."""

    controller_port: int = setting(
        "CONTROLLER_PORT",
        default=PORT,
        read=config.whole(0, 65535),
        help="Port of the controller's policy stream (gRPC, TLS); 0 picks a free one.",
    )
    controller_namespace: str = setting(
        "CONTROLLER_NAMESPACE",
        default="mcp-sentinel",
        help="Namespace of the controller itself: its lease and its certificate are there.",
    )
    controller_name: str = setting(
        "CONTROLLER_NAME",
        default="",
        help="Name of this replica of the controller; unset: the host's.",
    )
    controller_dns_names: tuple[str, ...] = setting(
        "CONTROLLER_DNS_NAMES",
        default=(),
        read=config.comma_list,
        help="Names in the controller's own certificate; unset: those of its Service.",
    )
    controller_tls_cert_file: str = setting(
        "CONTROLLER_TLS_CERT_FILE",
        default="",
        help="The controller's certificate, PEM; unset: it makes and rotates one.",
    )
    controller_tls_key_file: str = setting(
        "CONTROLLER_TLS_KEY_FILE",
        default="",
        help="The key of CONTROLLER_TLS_CERT_FILE, PEM.",
    )
    controller_lease_seconds: int = setting(
        "CONTROLLER_LEASE_SECONDS",
        default=15,
        read=config.whole(2, 3600),
        help="Time without a sign of the leading controller after which another takes over.",
    )
    controller_token_seconds: float = setting(
        "CONTROLLER_TOKEN_SECONDS",
        default=60.0,
        read=config.number(0, 3600),
        help="Time that a sidecar's token is believed without asking the API server again.",
    )
    cluster_name: str = setting(
        "MCP_CLUSTER_NAME",
        default="",
        help="The cluster's name, in every policy that the controller renders.",
    )

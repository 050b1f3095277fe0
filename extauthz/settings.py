"""The decision point's settings: one table, read once from the environment.

Names of mcp-runtime's sidecar that are absent here live elsewhere: PORT, UPSTREAM_URL,
STRIP_PREFIX and EXTERNAL_BASE_URL are Envoy's (envoy/), POLICY_MODE, POLICY_DEFAULT_DECISION,
POLICY_VERSION and the *_ID_HEADER names are the policy document's.
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from extauthz.audit_settings import INGEST_TOKEN, AuditSettings
from extauthz.core import config
from extauthz.core.config import setting
from extauthz.core.errors import Invalid
from extauthz.jwks import KeyOptions
from extauthz.ports import CheckServer
from extauthz.sources.stream.options import (
    ADDRESS,
    ALLOW_PLAINTEXT,
    CA_FILE,
    MAX_DOCUMENT,
    MAX_MESSAGE,
    TOKEN_FILE,
    StreamOptions,
    check_stream,
    stream_address,
)

_KEYS: Final = KeyOptions()
_STREAM: Final = StreamOptions(address="", server="", namespace="", gateway="", store=Path())
LAST_GOOD_NAME: Final = "last-policy.db"  # in the spool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(AuditSettings):
    """What the decision point is told at its start; units stand in the names."""

    policy_file: Path | None = setting(  # noqa: RUF009  # an immutable default
        "POLICY_FILE",
        default=None,
        read=Path,
        help="Policy document (policy.json) to run; this, ACCESS_DIR or POLICY_STREAM.",
    )
    access_dir: Path | None = setting(  # noqa: RUF009  # an immutable default
        "ACCESS_DIR",
        default=None,
        read=Path,
        help="Folder of custom resources as YAML to run; this, POLICY_FILE or POLICY_STREAM.",
    )
    policy_stream: str = setting(
        ADDRESS,
        default="",
        read=stream_address,
        help="The controller's HOST:PORT to follow; this, POLICY_FILE or ACCESS_DIR.",
    )
    policy_stream_token_file: Path | None = setting(  # noqa: RUF009  # an immutable default
        TOKEN_FILE,
        default=None,
        read=Path,
        help="A projected service-account token for the controller; read anew as it rotates.",
    )
    policy_stream_ca_file: Path | None = setting(  # noqa: RUF009  # an immutable default
        CA_FILE,
        default=None,
        read=Path,
        help="PEM certificates of who signs the controller's; read anew as they rotate.",
    )
    policy_stream_allow_loopback_plaintext: bool = setting(
        ALLOW_PLAINTEXT,
        default=False,
        read=config.flag,
        help="Follow a controller of this machine without TLS, as in tests.",
    )
    policy_stream_max_message_bytes: int = setting(
        MAX_MESSAGE,
        default=_STREAM.max_message_bytes,
        read=config.whole(64 * 1024, 1024**3),
        help="Largest message that is taken from the controller.",
    )
    policy_stream_max_bytes: int = setting(
        MAX_DOCUMENT,
        default=_STREAM.max_document_bytes,
        read=config.whole(1024 * 1024),
        help="Largest policy that is taken from it, in all its messages.",
    )
    policy_poll_seconds: float = setting(
        "POLICY_POLL_SECONDS",
        default=5.0,
        read=config.number(0.1, 3600),
        help="Longest time between two looks at a file or folder; changes are seen at once.",
    )
    server_name: str = setting(
        "MCP_SERVER_NAME",
        default="",
        help="The governed MCP server; a policy of another one is refused. Blank: the only one.",
    )
    server_namespace: str = setting(
        "MCP_SERVER_NAMESPACE", default="", help="Its namespace. Blank: any."
    )
    cluster_name: str = setting(
        "MCP_CLUSTER_NAME", default="", help="The cluster's name, for events."
    )
    check_address: str = setting(
        "CHECK_ADDRESS",
        default="unix:/var/run/sentinel/check.sock",
        read=config.listener,
        help="Where Envoy asks: a socket file, or a loopback address and port.",
    )
    check_allow_remote: bool = setting(
        "CHECK_ALLOW_REMOTE",
        default=False,
        read=config.flag,
        help="Let CHECK_ADDRESS be other than loopback: whoever reaches it can ask.",
    )
    check_server: str = setting(
        "CHECK_SERVER",
        default=CheckServer.NATIVE.value,
        read=config.one_of(*CheckServer),
        help="Who speaks gRPC to Envoy: native (pygrpc-native, faster) or grpcio.",
    )
    jwks_refresh_seconds: float = setting(
        "JWKS_REFRESH_SECONDS",
        default=_KEYS.refresh_seconds,
        read=config.number(1, 86_400),
        help="Mode oauth: time between two looks at the provider's keys.",
    )
    jwks_cooldown_seconds: float = setting(
        "JWKS_COOLDOWN_SECONDS",
        default=_KEYS.cooldown_seconds,
        read=config.number(0.1, 3600),
        help="Least time between two looks, after a failure or a token of an unknown key.",
    )
    jwks_max_age_seconds: float = setting(
        "JWKS_MAX_AGE_SECONDS",
        default=_KEYS.max_age_seconds,
        read=config.number(1),
        help="How long the last known keys count while the provider is away.",
    )
    jwks_allow_loopback_http: bool = setting(
        "JWKS_ALLOW_LOOPBACK_HTTP",
        default=_KEYS.allow_loopback_http,
        read=config.flag,
        help="Take keys over http from this machine, as in tests; else https alone.",
    )
    drain_seconds: float = setting(
        "DRAIN_SECONDS",
        default=10.0,
        read=config.number(0, 600),
        help="Time to finish calls and to send or spool events when stopped.",
    )
    metrics_host: str = setting(
        "METRICS_HOST",
        default="127.0.0.1",
        help="Address that serves /health, /live, /ready, /metrics and /config/status.",
    )
    metrics_port: int = setting(
        "METRICS_PORT", default=9103, read=config.whole(0, 65535), help="Its port; 0 picks one."
    )
    log_level: str = setting(
        "LOG_LEVEL",
        default="info",
        read=config.one_of("debug", "info", "warning", "error"),
        help="Least level that is logged.",
    )
    log_format: str = setting(
        "LOG_FORMAT",
        default="json",
        read=config.one_of("json", "text"),
        help="One JSON object a line, or text.",
    )

    def __post_init__(self) -> None:
        """Check what settings say together.

        Raises:
            Invalid: naming the setting and the mend.
        """
        sources = {
            "POLICY_FILE": self.policy_file,
            "ACCESS_DIR": self.access_dir,
            ADDRESS: self.policy_stream,
        }
        found = [name for name, value in sources.items() if value]
        if len(found) != 1:
            problem = f"is set, and {' and '.join(found[1:])} too" if found else "is not set"
            mend = "set one of POLICY_FILE, ACCESS_DIR and POLICY_STREAM"
            raise Invalid(found[0] if found else "POLICY_FILE", problem, mend)
        if self.policy_stream:
            check_stream(self.stream)
        if self.jwks_max_age_seconds <= self.jwks_refresh_seconds:
            problem = f"`{config.show(self.jwks_max_age_seconds)}` is within JWKS_REFRESH_SECONDS"
            raise Invalid("JWKS_MAX_AGE_SECONDS", problem, "set it longer than that")
        if self.api_key and self.ingest_token_file:
            raise Invalid(INGEST_TOKEN, "is set, and MCP_SENTINEL_API_KEY too", "set one of them")
        if not (self.check_address.startswith(config.UNIX) or self.check_allow_remote):
            host = self.check_address.rpartition(":")[0].removeprefix("[").removesuffix("]")
            if not ipaddress.ip_address(host).is_loopback:
                mend = "use a socket file or 127.0.0.1, or set CHECK_ALLOW_REMOTE=true"
                problem = f"`{self.check_address}` is not loopback"
                raise Invalid("CHECK_ADDRESS", problem, mend)

    @property
    def stream(self) -> StreamOptions:
        """What the stream source is told."""
        return StreamOptions(
            address=self.policy_stream,
            server=self.server_name,
            namespace=self.server_namespace,
            gateway=self.gateway_name,
            store=self.spool_dir / LAST_GOOD_NAME,
            token_file=self.policy_stream_token_file,
            ca_file=self.policy_stream_ca_file,
            plaintext=self.policy_stream_allow_loopback_plaintext,
            max_message_bytes=self.policy_stream_max_message_bytes,
            max_document_bytes=self.policy_stream_max_bytes,
        )

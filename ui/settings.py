"""The dashboard's settings: one table, read once from the environment."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from extauthz.core import config
from extauthz.core.config import setting
from extauthz.core.errors import Invalid

LEAST_KEY_CHARACTERS: Final = 32
_HTTPS: Final = "https://"
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def _session_keys(value: str) -> tuple[str, ...]:
    keys = config.comma_list(value)
    if any(len(key) < LEAST_KEY_CHARACTERS for key in keys):
        mend = f"make each of {LEAST_KEY_CHARACTERS} random characters or more"
        raise Invalid("", "holds a key that can be guessed", mend)
    return keys


def _origin(value: str) -> str:
    url = config.http_url(value).rstrip("/")
    if url.count("/") > 2:
        raise Invalid("", "has a path", "write it like https://sentinel.example.org")
    return url


def _issuer(value: str) -> str:
    url = config.http_url(value)
    if not url.startswith(_HTTPS) and urlsplit(url).hostname not in _LOOPBACK:
        raise Invalid("", "is not https, and not on this machine", "use the https address")
    return url


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the dashboard is told at its start; units stand in the names."""

    host: str = setting(
        "HOST",
        default="127.0.0.1",
        help="Address that it listens on; 0.0.0.0 in a container.",
    )
    port: int = setting(
        "PORT", default=8082, read=config.whole(0, 65535), help="Its port; 0 picks a free one."
    )
    metrics_port: int = setting(
        "METRICS_PORT",
        default=9104,
        read=config.whole(0, 65535),
        help="Port of /metrics; 0 picks a free one.",
    )
    api_upstream: str = setting(
        "API_UPSTREAM",
        default="http://127.0.0.1:8080",
        read=_origin,
        help="Where the api is; its paths begin with /api.",
    )
    api_timeout_seconds: float = setting(
        "API_TIMEOUT_SECONDS",
        default=30.0,
        read=config.number(0.1, 600),
        help="How long the api may be silent before the dashboard says so.",
    )
    public_url: str = setting(
        "UI_PUBLIC_URL",
        default="",
        read=_origin,
        help="Where browsers find it; with https, cookies are Secure and HSTS is sent.",
    )
    session_keys: tuple[str, ...] = setting(
        "UI_SESSION_KEYS",
        default=(),
        read=_session_keys,
        secret=True,
        files=("UI_SESSION_KEYS_FILE",),
        help="Keys that encrypt sessions, the newest first; unset: one that ends with the process.",
    )
    session_hours: float = setting(
        "UI_SESSION_HOURS",
        default=8.0,
        read=config.number(0.001, 720),
        help="How long a login lasts.",
    )
    login_token_file: str = setting(
        "UI_LOGIN_TOKEN_FILE",
        default="",
        help="File of a one-time login token, as `sentinel up` makes it; needs API_KEY.",
    )
    link_key: str = setting(
        "API_KEY",
        default="",
        secret=True,
        files=("API_KEY_FILE",),
        help="Key of the api for who comes by the one-time link; unset: there is none.",
    )
    oidc_issuer: str = setting(
        "OIDC_ISSUER",
        default="",
        read=_issuer,
        help="OpenID Connect provider that people sign in with; the api's OIDC_ISSUER.",
    )
    oidc_client_id: str = setting(
        "OIDC_CLIENT_ID",
        default="",
        help="What the dashboard is to the provider; the api's OIDC_AUDIENCE.",
    )
    oidc_client_secret: str = setting(
        "OIDC_CLIENT_SECRET",
        default="",
        secret=True,
        files=("OIDC_CLIENT_SECRET_FILE",),
        help="Its secret; unset: a public client (PKCE is used in either case).",
    )
    oidc_scopes: str = setting(
        "OIDC_SCOPES", default="openid email profile", help="What is asked of the provider."
    )
    default_namespace: str = setting(
        "UI_DEFAULT_NAMESPACE",
        default="mcp-servers",
        help="Namespace that forms begin with.",
    )
    default_policy_version: str = setting(
        "UI_DEFAULT_POLICY_VERSION", default="", help="Policy version that forms begin with."
    )
    log_level: str = setting(
        "LOG_LEVEL",
        default="info",
        read=config.one_of("debug", "info", "warning", "error"),
        help="Least level that is logged.",
    )

    def __post_init__(self) -> None:
        """Check what settings say together.

        Raises:
            Invalid: naming the setting and the mend.
        """
        if bool(self.oidc_issuer) != bool(self.oidc_client_id):
            name, other = "OIDC_CLIENT_ID", "OIDC_ISSUER"
            unset, told = (name, other) if self.oidc_issuer else (other, name)
            raise Invalid(unset, f"is not set, and {told} is", "set both or none")
        if self.oidc_issuer and not self.public_url:
            mend = "set it: the provider sends people back there"
            raise Invalid("UI_PUBLIC_URL", "is not set, and OIDC_ISSUER is", mend)
        if self.login_token_file and not self.link_key:
            mend = "set it, or leave UI_LOGIN_TOKEN_FILE out"
            raise Invalid("API_KEY", "is not set, and UI_LOGIN_TOKEN_FILE is", mend)

    @property
    def is_secure(self) -> bool:
        """Whether browsers come by https."""
        return self.public_url.startswith(_HTTPS)

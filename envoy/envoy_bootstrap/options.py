"""What may be chosen about the two bootstraps. Everything else is fixed, on purpose."""

import ipaddress
import re
from dataclasses import dataclass, field, fields
from typing import Any, Self
from urllib.parse import urlsplit

from extauthz.core.errors import Invalid
from extauthz.core.request import MAX_BODY_BYTES

# sun_path of a Unix socket address, less its closing NUL.
SOCKET_PATH_BYTES = 107

_SCHEMES = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_AUTHORITY = re.compile(rf"({_HOST.pattern}|\[[0-9a-fA-F:.]+\])(:[0-9]{{1,5}})?")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a server listens: a host and port, or a Unix socket.

    Attributes:
        host: name or address; empty for a socket.
        port: TCP port; 0 for a socket.
        tls: whether Envoy speaks TLS to it, and verifies its certificate for `host`.
        socket: path of its Unix socket; empty for TCP.
    """

    host: str = ""
    port: int = 0
    tls: bool = False
    socket: str = ""

    @classmethod
    def parse(cls, url: str, setting: str = "upstream") -> Self:
        """Read `http://host:port`, `https://host:port` or `unix:path`.

        Raises:
            Invalid: naming the setting, the value and the mend.
        """
        if url.startswith("unix:"):
            path = url.removeprefix("unix:")
            path = path.removeprefix("//") if path.startswith("///") else path
            return cls(socket=_socket(path, setting))
        mend = "write http://host:port, https://host:port or unix:path"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise Invalid(setting, f"`{url}` is not an address", mend) from None
        if parts.username is not None or parts.password is not None:
            # The value is not repeated: it may hold a password.
            raise Invalid(setting, "an upstream address carries no credentials", mend)
        if parts.scheme not in _SCHEMES or not host or port == 0:
            raise Invalid(setting, f"`{url}` is not an address", mend)
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise Invalid(setting, f"`{url}` has a path", "leave it out; paths pass unchanged")
        if not is_address(host) and not _HOST.fullmatch(host):
            raise Invalid(setting, f"`{host}` is not a host name", mend)
        return cls(host, port or _SCHEMES[parts.scheme], parts.scheme == "https")


def is_address(host: str) -> bool:
    """Tell an IP address from a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def option(default: Any, help_text: str) -> Any:
    """A field with its default and the sentence that `--help` shows."""
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerOptions:
    """What both bootstraps let one choose.

    Raises:
        Invalid: on construction, naming the option, the value and the mend.
    """

    listen_address: str = option("0.0.0.0", "address to listen on")  # noqa: S104
    listen_port: int = option(0, "port to listen on")
    admin_socket: str = option("/var/run/sentinel/admin.sock", "Envoy's admin, a socket file")
    trusted_hops: int = option(
        0, "proxies in front whose X-Forwarded-For and X-Forwarded-Proto are believed"
    )
    max_connections: int = option(4096, "open client connections; more are refused")
    max_heap_bytes: int = option(1 << 30, "heap at which Envoy refuses work instead of dying")
    request_seconds: float = option(60.0, "time a client has to send its whole request")
    stream_idle_seconds: float = option(3600.0, "silence after which a stream is closed")

    def __post_init__(self) -> None:
        if not is_address(self.listen_address):
            problem = f"`{self.listen_address}` is not an IP address"
            raise Invalid("listen_address", problem, "write one, such as 127.0.0.1")
        _between("listen_port", self.listen_port, 0, 65535)
        _between("trusted_hops", self.trusted_hops, 0, 16)
        _between("max_connections", self.max_connections, 1, 1_000_000)
        _between("max_heap_bytes", self.max_heap_bytes, 64 << 20, 1 << 40)
        _between("request_seconds", self.request_seconds, 1, 86400)
        _between("stream_idle_seconds", self.stream_idle_seconds, 1, 7 * 86400)
        _socket(self.admin_socket, "admin_socket")


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarOptions(ListenerOptions):
    """The Envoy in front of one MCP server.

    Relative paths count from Envoy's working directory: a socket path may not be
    longer than 107 bytes, and a state folder may lie deep.
    """

    listen_port: int = option(8091, "port to listen on")
    upstream: Upstream = option(  # noqa: RUF009
        Upstream("127.0.0.1", 8090), "the MCP server: http://host:port, https://…, unix:path"
    )
    host_rewrite: str = option(
        "",
        "Host header that the server sees; empty leaves the client's, and so does a listener on "
        "loopback where that is no loopback name",
    )
    upstream_ca_file: str = option(
        "/etc/ssl/certs/ca-certificates.crt", "authorities that an https upstream is checked by"
    )
    check_socket: str = option("/var/run/sentinel/check.sock", "the decision point's socket")
    check_seconds: float = option(1.0, "time the decision point has for one decision")
    undecided_log: str = option(
        "/var/spool/sentinel/undecided.jsonl", "file of the requests that got no decision"
    )
    max_request_bytes: int = option(4194304, "largest request body; a larger one gets 413")
    connect_seconds: float = option(5.0, "time to connect to the MCP server")
    upstream_idle_seconds: float = option(
        4.0, "an unused connection to the server is closed after; keep it below the server's own"
    )

    def __post_init__(self) -> None:
        ListenerOptions.__post_init__(self)
        _socket(self.check_socket, "check_socket")
        _between("check_seconds", self.check_seconds, 0.01, 60)
        # More would pass Envoy, and then be refused by the decision point without a reason.
        _between("max_request_bytes", self.max_request_bytes, 1024, MAX_BODY_BYTES)
        _between("connect_seconds", self.connect_seconds, 0.01, 300)
        _between("upstream_idle_seconds", self.upstream_idle_seconds, 0.1, 3600)
        if not self.undecided_log:
            raise Invalid("undecided_log", "`` is not a file", "name one in the spool folder")
        if self.host_rewrite and not _AUTHORITY.fullmatch(self.host_rewrite):
            problem = f"`{self.host_rewrite}` is not a host name"
            raise Invalid("host_rewrite", problem, "write host or host:port")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions(ListenerOptions):
    """The Envoy in front of ui and ingest."""

    listen_port: int = option(8083, "port to listen on")
    ui: Upstream = option(  # noqa: RUF009
        Upstream("mcp-sentinel-ui", 8082), "the ui, which also carries /api"
    )
    ingest: Upstream = option(  # noqa: RUF009
        Upstream("mcp-sentinel-ingest", 8081), "ingest, under /ingest"
    )
    access_log: str = option("/dev/stdout", "file of the access log")
    response_seconds: float = option(60.0, "time a service has for its answer")

    def __post_init__(self) -> None:
        ListenerOptions.__post_init__(self)
        _between("response_seconds", self.response_seconds, 1, 3600)
        for name in ("ui", "ingest"):
            if getattr(self, name).tls:
                raise Invalid(name, "`https` is not spoken inside the cluster", "write http://…")


def named(options: type[ListenerOptions]) -> dict[str, tuple[Any, str]]:
    """Every option of a bootstrap: its default and its help."""
    return {each.name: (each.default, each.metadata["help"]) for each in fields(options)}


def _between(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise Invalid(name, f"`{value}` is out of range", f"choose {least} to {most}")


def _socket(path: str, setting: str) -> str:
    if not path or "\0" in path or len(path.encode()) > SOCKET_PATH_BYTES:
        mend = f"use 1 to {SOCKET_PATH_BYTES} bytes, or a path relative to the working directory"
        raise Invalid(setting, f"`{path}` cannot be a socket path", mend)
    return path

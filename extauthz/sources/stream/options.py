"""What the stream source is told at its start."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from extauthz.core.errors import Invalid

ADDRESS: Final = "POLICY_STREAM"
TOKEN_FILE: Final = "POLICY_STREAM_TOKEN_FILE"  # noqa: S105  # a setting's name
CA_FILE: Final = "POLICY_STREAM_CA_FILE"
ALLOW_PLAINTEXT: Final = "POLICY_STREAM_ALLOW_LOOPBACK_PLAINTEXT"
MAX_MESSAGE: Final = "POLICY_STREAM_MAX_MESSAGE_BYTES"
MAX_DOCUMENT: Final = "POLICY_STREAM_MAX_BYTES"
_HOST: Final = re.compile(r"(?=.{1,253}:)(?!-)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.?:")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """Where the controller is, who asks, and the bounds.

    Args:
        address: host and port; the host's certificate must be for this name.
        server, namespace: the MCPServer that is governed here.
        gateway: this sidecar's name.
        store: file that keeps the last known good policy.
        token_file: a service-account token, read anew for each stream; None sends none.
        ca_file: PEM certificates of who signs the controller's, read anew likewise.
        plaintext: without TLS, to this machine alone.
        max_message_bytes: one message of the controller.
        max_document_bytes: one update in all its messages.
        first_answer_seconds: from the begin of a stream to its first message.
        update_seconds: from the first message of an update to its last.
        silence_seconds: without a message, after which a stream counts as dead.
        keepalive_seconds: time between two pings of the connection.
        keepalive_timeout_seconds: time for the answer to one.
        retry_max_seconds: longest pause between two tries.
    """

    address: str
    server: str
    namespace: str
    gateway: str
    store: Path
    token_file: Path | None = None
    ca_file: Path | None = None
    plaintext: bool = False
    max_message_bytes: int = 4 * 1024 * 1024
    max_document_bytes: int = 128 * 1024 * 1024
    first_answer_seconds: float = 5.0
    update_seconds: float = 60.0
    silence_seconds: float = 30.0
    keepalive_seconds: float = 5.0
    keepalive_timeout_seconds: float = 3.0
    retry_max_seconds: float = 5.0


def stream_address(value: str) -> str:
    """HOST:PORT, the host a name or an IP address.

    Raises:
        Invalid: it is neither.
    """
    host, _, port = value.rpartition(":")
    is_port = port.isascii() and port.isdecimal() and 0 < int(port[:9]) <= 65535
    if not is_port or not (_HOST.fullmatch(f"{host}:") or _address(host)):
        mend = "write it like mcp-sentinel-controller.mcp-sentinel.svc:8086"
        raise Invalid("", "is not a host and a port", mend)
    return value


def check_stream(options: StreamOptions) -> None:
    """Check what the settings of the stream say together.

    Raises:
        Invalid: naming the setting and the mend.
    """
    for name, value in (
        ("MCP_SERVER_NAME", options.server),
        ("MCP_SERVER_NAMESPACE", options.namespace),
    ):
        if not value:
            raise Invalid(
                name, f"is not set, and {ADDRESS} is", "name the MCPServer of this sidecar"
            )
    if options.max_message_bytes > options.max_document_bytes:
        problem = f"`{options.max_message_bytes}` is more than {MAX_DOCUMENT}"
        raise Invalid(MAX_MESSAGE, problem, "set it no larger than that")
    if options.plaintext:
        if not _is_loopback(options.address):
            mend = f"use TLS: unset {ALLOW_PLAINTEXT}, and set {CA_FILE}"
            raise Invalid(ADDRESS, f"`{options.address}` is not loopback, and plaintext", mend)
        if options.ca_file:
            raise Invalid(CA_FILE, f"is set, and {ALLOW_PLAINTEXT} too", "set one of the two")
        return
    for name, path, what in (
        (CA_FILE, options.ca_file, "the certificate of who signs the controller's"),
        (TOKEN_FILE, options.token_file, "a token for audience mcp-sentinel-controller"),
    ):
        if path is None:
            raise Invalid(name, f"is not set, and {ADDRESS} is", f"name the file with {what}")


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0]
    found = _address(host)
    return found.is_loopback if found else host == "localhost"


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    is_bracketed = host.startswith("[") and host.endswith("]")
    try:
        found = ipaddress.ip_address(host[1:-1] if is_bracketed else host)
    except ValueError:
        return None
    return found if is_bracketed == (found.version == 6) else None

"""The few headers that the gate reads: each at most once, each as text."""

import base64
import binascii
import re
from collections.abc import Iterable

from extauthz.core.reasons import Reason
from extauthz.core.strictjson import Doubtful

# Headers whose repetition servers read differently (first, last or joined).
# Every `mcp-…` header counts as one of them.
SINGLE = frozenset(
    {"content-type", "content-encoding", "authorization", "mcp-protocol-version", "mcp-session-id"}
)

# Envoy joins a repeated one of these with a comma before the gate sees it.
_JOINED = frozenset({"content-type", "content-encoding"})
_BEARERS = re.compile(r"bearer\s.*,", re.IGNORECASE)  # a token has no comma (RFC 6750, 2.1)

_JSON = re.compile(r'application/json(?:[ \t]*;[ \t]*charset="?utf-8"?)?', re.IGNORECASE)
_BASE64 = re.compile(r"=\?base64\?(?P<payload>.*)\?=", re.DOTALL)


def read_headers(
    headers: Iterable[tuple[str, bytes]], identity_headers: frozenset[str]
) -> dict[str, str]:
    """Collect the headers that decisions rest on.

    Args:
        headers: (lower-case name, raw value), repetitions included.
        identity_headers: lower-case names that the policy takes identity from.

    Raises:
        Doubtful: where one of them is repeated, is not UTF-8, or has spaces around its value.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        if name in SINGLE or name in identity_headers or name.startswith("mcp-"):
            try:
                text = value.decode("utf-8")
            except UnicodeDecodeError:
                raise Doubtful(Reason.INVALID_HEADER, f"header {name} is not UTF-8") from None
            if text != text.strip(" \t"):  # HTTP/2 brings it as it is; servers trim it
                raise Doubtful(Reason.INVALID_HEADER, f"header {name} has spaces around its value")
            if name in found or _is_joined(name, text):
                raise Doubtful(Reason.DUPLICATE_HEADER, f"header {name} stands more than once")
            found[name] = text
    return found


def _is_joined(name: str, text: str) -> bool:
    return (name in _JOINED and "," in text) or (
        name == "authorization" and _BEARERS.match(text) is not None
    )


def check_media_type(headers: dict[str, str]) -> None:
    """Admit one `application/json`, UTF-8, not encoded.

    Raises:
        Doubtful: unsupported_media_type.
    """
    if "content-encoding" in headers and headers["content-encoding"].lower() != "identity":
        raise Doubtful(
            Reason.UNSUPPORTED_MEDIA_TYPE, "the body must not be encoded; drop content-encoding"
        )
    if not _JSON.fullmatch(headers.get("content-type", "")):
        raise Doubtful(
            Reason.UNSUPPORTED_MEDIA_TYPE, "content-type must be application/json (charset utf-8)"
        )


def decode_mcp_value(value: str) -> str | None:
    """Undo the `=?base64?…?=` form of Mcp-Name; None where it is malformed or not canonical."""
    match = _BASE64.fullmatch(value)
    if match is None:
        return value
    payload = match["payload"]
    try:
        raw = base64.b64decode(payload, validate=True)
        return raw.decode("utf-8") if base64.b64encode(raw).decode() == payload else None
    except (binascii.Error, ValueError):
        return None

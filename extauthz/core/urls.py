"""URLs of mode oauth: where keys may be fetched, and where a server says how to sign in."""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from extauthz.core.errors import Invalid
from extauthz.core.request import Request

METADATA_PATH: Final = "/.well-known/oauth-protected-resource"  # RFC 9728, section 3
# Plain segments alone: what one server reads as `..` would reach another resource.
_PLAIN_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def check_key_url(url: str, where: str) -> None:
    """Refuse an address that a provider's keys must not be fetched from.

    https, or http to this machine (which the decision point must be told to allow).

    Raises:
        Invalid: at `where`.
    """
    mend = "write it like https://login.example.com"
    try:
        parts = urlsplit(url)
        fits = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        fits = False
    if not fits or not url.isascii() or re.search(r"[\x00-\x20\x7f\\]", url):
        raise Invalid(where, f"`{url[:200]}` is not a URL", mend)
    if parts.username is not None or parts.password is not None:
        raise Invalid(where, "holds credentials", "take them out of the URL")
    if parts.fragment:
        raise Invalid(where, f"`{url[:200]}` has a fragment", "remove it")
    if parts.scheme != "https" and not is_loopback_http(url):
        raise Invalid(where, f"`{url[:200]}` is not https", "keys are fetched over https alone")


def is_loopback_http(url: str) -> bool:
    """True for http to this machine."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        return False
    try:
        return ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return parts.hostname == "localhost"


def is_metadata(request: Request) -> bool:
    """True where a client asks how to sign in, for which it needs no token."""
    if request.method != "GET":
        return False
    path = request.path.partition("?")[0]
    return path.startswith(METADATA_PATH) and bool(
        _PLAIN_PATH.fullmatch(path.removeprefix(METADATA_PATH))
    )


def metadata_url(request: Request) -> str:
    """The URL of the metadata of what was asked for, as the client sees it.

    Empty where host or path cannot stand in a quoted string as they are.
    """
    path = request.path.partition("?")[0].removesuffix("/")
    plain = _HOST.fullmatch(request.host) and _PLAIN_PATH.fullmatch(path)
    if not plain or request.scheme not in {"http", "https"}:
        return ""
    return f"{request.scheme}://{request.host}{METADATA_PATH}{path}"

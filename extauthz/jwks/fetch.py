"""Fetches a provider's public keys: discovery (OpenID Connect, RFC 8414) and its JWK Set.

https alone, no redirects, no proxy, bounded in size and time. Private authorities are named as
OpenSSL does it (SSL_CERT_FILE).
"""

from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import aiohttp

from extauthz.core.errors import Invalid, Retryable
from extauthz.core.strictjson import Doubtful, parse
from extauthz.core.tokens import KeySet
from extauthz.core.urls import check_key_url, is_loopback_http

MAX_DOCUMENT_BYTES: Final = 256 * 1024
TIMEOUT_SECONDS: Final = 5.0  # for one request, from the look-up of the name to the last byte
ALLOW_LOOPBACK: Final = "JWKS_ALLOW_LOOPBACK_HTTP"


class Provider(Protocol):
    """Whose keys are wanted."""

    @property
    def issuer(self) -> str:
        """As the provider writes it, to the slash."""

    @property
    def jwks_url(self) -> str:
        """Where its keys are; empty where its metadata tells."""


def open_session() -> aiohttp.ClientSession:
    """A session that keeps nothing between two requests, and decodes nothing unbounded."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, ttl_dns_cache=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        auto_decompress=False,
    )


async def fetch_keys(
    session: aiohttp.ClientSession, provider: Provider, *, allow_loopback_http: bool
) -> KeySet:
    """Fetch the keys of an issuer.

    Args:
        session: from `open_session`.
        provider: its jwks_url counts, else what the issuer's metadata say.
        allow_loopback_http: take http from this machine too.

    Raises:
        Invalid: what was served cannot be used, or an address must not be asked.
        Retryable: nothing was served.
    """
    url = provider.jwks_url or await _discover(session, provider.issuer, allow_loopback_http)
    document = await _get(session, url, allow_loopback_http)
    try:
        return KeySet(document)
    except Invalid as error:
        raise Invalid(f"{url}: {error.field}", error.problem, error.mend) from error


async def _discover(session: aiohttp.ClientSession, issuer: str, allow_loopback_http: bool) -> str:
    parts = urlsplit(issuer)
    openid = f"{issuer.removesuffix('/')}/.well-known/openid-configuration"
    path = parts.path.removesuffix("/")
    oauth = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{path}"
    try:
        url, metadata = openid, await _get(session, openid, allow_loopback_http)
    except Retryable as absent:
        try:
            url, metadata = oauth, await _get(session, oauth, allow_loopback_http)
        except Retryable:
            raise absent from None
    if not isinstance(metadata, dict) or metadata.get("issuer") != issuer:
        mend = "write the issuer as the provider does, to the slash"
        raise Invalid(url, f"names another issuer than `{issuer}`", mend)
    found = metadata.get("jwks_uri")
    if not isinstance(found, str) or not found:
        raise Invalid(url, "names no jwks_uri", "set the address of its keys (JWKS) yourself")
    return found


async def _get(session: aiohttp.ClientSession, url: str, allow_loopback_http: bool) -> Any:
    """One JSON document."""
    check_key_url(url, "token keys")
    if is_loopback_http(url) and not allow_loopback_http:
        raise Invalid(url, "is not https", f"use https, or set {ALLOW_LOOPBACK}=true for tests")
    try:
        async with session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise Retryable(f"{url}: answered {response.status}; it must answer 200 itself")
            body = b""
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_DOCUMENT_BYTES:
                    most = f"serve at most {MAX_DOCUMENT_BYTES} bytes"
                    raise Invalid(url, "is too large", most)
    except TimeoutError as error:
        raise Retryable(f"{url}: did not answer within {TIMEOUT_SECONDS:g} s; is it up?") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Retryable(f"{url}: cannot be reached ({error}); is the address right?") from error
    try:
        return parse(body)
    except Doubtful as refused:
        raise Invalid(url, f"is not JSON ({refused.detail})", "serve one JSON object") from refused

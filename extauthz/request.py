"""Envoy's CheckRequest, read into the domain's values."""

import re

from extauthz.core.events import Asked
from extauthz.core.request import Request
from protos.gen.external_auth_pb2 import AttributeContext, CheckRequest

# W3C Trace Context, section 3.2.2: version, trace id, parent id, flags. A version above 00 may
# carry more; ff, and ids of zeros alone, are invalid.
_TRACEPARENT = re.compile(
    rb"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}"
    rb"-[0-9a-f]{2}(?P<more>-.*)?",
    re.DOTALL,
)


def to_request(message: CheckRequest) -> Request:
    """Take over what Envoy read, byte for byte; nothing is interpreted."""
    attributes = message.attributes
    http = attributes.request.http
    headers = _headers(http)
    return Request(
        http.method,
        http.path,
        headers,
        http.raw_body or http.body.encode(),
        attributes.source.address.socket_address.address,
        _request_id(headers) or http.id,
        http.host,
        http.scheme,
    )


def to_asked(request: Request) -> Asked:
    """Keep what the audit event tells of the request: no query, no headers, no body."""
    return Asked(
        method=request.method,
        path=request.path.partition("?")[0].partition("#")[0],
        request_id=request.id,
        trace_id=_trace_id(request),
    )


def _headers(http: AttributeContext.HttpRequest) -> tuple[tuple[str, bytes], ...]:
    """Headers in order, without HTTP/2's pseudo-headers (method and path stand elsewhere)."""
    if http.HasField("header_map"):
        return tuple(
            [
                (key.lower(), header.raw_value or header.value.encode())
                for header in http.header_map.headers
                if (key := header.key)[:1] != ":"
            ]
        )
    # Envoy without `encode_raw_headers`: duplicates are merged, bytes beyond UTF-8 replaced.
    return tuple(
        (key.lower(), value.encode())
        for key, value in http.headers.items()
        if not key.startswith(":")
    )


def _request_id(headers: tuple[tuple[str, bytes], ...]) -> str:
    """Envoy's x-request-id, by which its access logs name the request; `http.id` is another."""
    for name, value in headers:
        if name == "x-request-id":
            return value.decode("utf-8", "replace")
    return ""


def _trace_id(request: Request) -> str:
    """The trace id of the one valid traceparent; empty where there is none, or several."""
    values = [value for name, value in request.headers if name == "traceparent"]
    match = _TRACEPARENT.fullmatch(values[0]) if len(values) == 1 else None
    if match is None or (match["version"] == b"00" and match["more"]):
        return ""
    return match["trace"].decode()

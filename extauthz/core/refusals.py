"""Why Envoy refused a request before any decision: the reasons of its own answers and events."""

from enum import StrEnum


class Refusal(StrEnum):
    """Told by Envoy's answer (envoy/) and by the event; a test ties both and the docs together."""

    MALFORMED_HTTP = "malformed_http"  # headers, framing, path or codec
    UPGRADE_REFUSED = "upgrade_refused"
    CONNECT_REFUSED = "connect_refused"
    REQUEST_TIMEOUT = "request_timeout"  # it did not arrive in time
    REQUEST_TOO_LARGE = "request_too_large"
    HTTP_1_0_REFUSED = "http_1_0_refused"
    HEADERS_TOO_LARGE = "headers_too_large"
    ENCODING_REFUSED = "encoding_refused"  # a Transfer-Encoding other than chunked
    DECISION_UNAVAILABLE = "decision_unavailable"  # the decision point did not answer in time
    GATEWAY_ERROR = "gateway_error"  # any other answer of Envoy's own; or its line is unreadable
    CLIENT_DISCONNECTED = "client_disconnected"  # told in events only: nobody was there to answer


_BY_STATUS = {
    400: Refusal.MALFORMED_HTTP,
    403: Refusal.UPGRADE_REFUSED,
    404: Refusal.CONNECT_REFUSED,
    408: Refusal.REQUEST_TIMEOUT,
    413: Refusal.REQUEST_TOO_LARGE,
    426: Refusal.HTTP_1_0_REFUSED,
    431: Refusal.HEADERS_TOO_LARGE,
    501: Refusal.ENCODING_REFUSED,
    503: Refusal.DECISION_UNAVAILABLE,
}
# HTTP/2 streams are reset, not answered; these are resets that the client itself sent.
_LEFT = ("http2.remote_reset", "http2.remote_refuse")


def refusal(status: int, flags: str, details: str) -> Refusal:
    """The reason of a request that got no decision.

    Args:
        status: HTTP status; 0 when none was sent.
        flags: Envoy's short response flags, comma-separated.
        details: Envoy's response code details.
    """
    if status:
        return _BY_STATUS.get(status, Refusal.GATEWAY_ERROR)
    if details.startswith(("http1.", "http2.")) and details not in _LEFT:
        return Refusal.HEADERS_TOO_LARGE if "headers" in details else Refusal.MALFORMED_HTTP
    named = flags.split(",")
    if "DPE" in named:
        return Refusal.MALFORMED_HTTP
    if "DC" in named or "DR" in named:
        return Refusal.CLIENT_DISCONNECTED
    return Refusal.GATEWAY_ERROR

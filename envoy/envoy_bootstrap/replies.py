"""What Envoy itself answers, in words that a client of the service can read."""

from collections.abc import Mapping
from dataclasses import dataclass

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLogFilter, ComparisonFilterOp
from envoy_data_plane.envoy.config.core.v3 import SubstitutionFormatString
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    LocalReplyConfig,
    ResponseMapper,
)
from envoy_data_plane.google.protobuf import Struct

from envoy_bootstrap.typed import decided, every, flagged, status, undecided

# Response flags of an upstream that failed: these may follow an allowed call.
UPSTREAM_FLAGS = ("UH", "UF", "UC", "UO", "UT", "UR", "LR", "UPE", "NC", "DF", "SI")


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of Envoy's own.

    Attributes:
        status: the HTTP status that it goes with.
        code: JSON-RPC error code.
        reason: a code for programs.
        message: a sentence for people and models, the mend last.
    """

    status: int
    code: int
    reason: str
    message: str


# -32600: the request is at fault. -32603: we are, and it may work later.
REPLIES = (
    Reply(400, -32600, "malformed_http", "the HTTP request is malformed; send it well-formed"),
    Reply(403, -32600, "upgrade_refused", "connection upgrades are refused; use plain HTTP"),
    Reply(404, -32600, "connect_refused", "CONNECT is refused; send the request itself"),
    Reply(408, -32600, "request_timeout", "the request did not arrive in time; send it again"),
    Reply(413, -32600, "request_too_large", "the request body is too large; send a smaller one"),
    Reply(426, -32600, "http_1_0_refused", "HTTP/1.0 is refused; use HTTP/1.1 or HTTP/2"),
    Reply(431, -32600, "headers_too_large", "the request headers are too large; send fewer"),
    Reply(501, -32600, "encoding_refused", "only `chunked` is served as Transfer-Encoding"),
    Reply(
        503,
        -32603,
        "decision_unavailable",
        "the policy decision point did not answer, so nothing was executed; try again later",
    ),
)
_OTHERWISE = Reply(0, -32603, "gateway_error", "the gateway could not serve the request")
_UPSTREAM = Reply(
    0,
    -32603,
    "upstream_unavailable",
    "the MCP server did not answer; whether it executed the call is not known",
)


def rpc_replies() -> LocalReplyConfig:
    """JSON-RPC bodies, for everything but the decision point's own denials.

    Those pass through here too, and carry a decision id: their bodies stay.
    """
    mappers = [_mapper(every(decided(), flagged(UPSTREAM_FLAGS)), _rpc(_UPSTREAM))]
    mappers += [_mapper(every(undecided(), status(r.status)), _rpc(r)) for r in REPLIES]
    mappers.append(_mapper(undecided(), _rpc(_OTHERWISE)))
    return LocalReplyConfig(mappers=mappers)


def problem_replies() -> LocalReplyConfig:
    """Problem documents (RFC 9457) whose members are all strings."""
    known = {
        404: ("connect_refused", "CONNECT is refused; send the request itself"),
        408: ("request_timeout", "the request did not arrive in time; send it again"),
        503: ("service_unavailable", "the service is away; try again later"),
        504: ("service_timeout", "the service did not answer in time; try again later"),
    }
    mappers = [_mapper(status(code), _problem(*words)) for code, words in known.items()]
    otherwise = _problem("gateway_error", "the gateway refused the request; send it well-formed")
    # Not below 400: the answer to /ping comes this way too.
    mappers.append(_mapper(status(400, ComparisonFilterOp.GE), otherwise))
    return LocalReplyConfig(mappers=mappers)


def _rpc(reply: Reply) -> Mapping[str, object]:
    return {
        "jsonrpc": "2.0",
        "id": None,
        "error": {
            "code": reply.code,
            "message": reply.message,
            "data": {"reason": reply.reason, "request_id": "%REQUEST_HEADER(X-REQUEST-ID)%"},
        },
    }


def _problem(code: str, message: str) -> Mapping[str, object]:
    return {
        "type": "about:blank",
        "title": code.replace("_", " "),
        "detail": message,
        "error": code,
        "message": message,
    }


def _mapper(matched: AccessLogFilter, body: Mapping[str, object]) -> ResponseMapper:
    content_type = "application/json" if "jsonrpc" in body else "application/problem+json"
    return ResponseMapper(filter=matched, body_format_override=_json(body, content_type))


def _json(body: Mapping[str, object], content_type: str) -> SubstitutionFormatString:
    return SubstitutionFormatString(
        json_format=Struct.from_dict(dict(body)), content_type=content_type
    )

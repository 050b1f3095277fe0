"""The strict parse: one HTTP request to one `Call`, or a refusal with a reason.

Whatever two servers could read differently is refused (docs/decisions.md, row 1).
"""

from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from extauthz.core.canonical import canonical, digest
from extauthz.core.headers import check_media_type, decode_mcp_value
from extauthz.core.methods import (
    KNOWN_VERSIONS,
    MAX_METHOD_CHARS,
    MODERN_VERSIONS,
    NAME_REQUIRED,
    NAMED_BY,
    NOTIFICATIONS,
    REQUESTS,
    TOOL_CALLS,
    VERSION_KEY,
    reads_as_tool_call,
)
from extauthz.core.reasons import Reason
from extauthz.core.request import NO_CALL, Call, Era, Kind, Request
from extauthz.core.strictjson import Doubtful, Limits, parse

LIMITS = Limits(containers=100_000, members=25_000, elements=50_000)  # in one body
MAX_ID = 2**53 - 1  # the largest integer that every JSON reader holds exactly (RFC 7493, 2.2)
MAX_ID_CHARS = 1024  # a denial repeats it, and Envoy takes an answer of 1 MiB

_BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_KNOWN_METHODS = REQUESTS | NOTIFICATIONS
_ENVELOPE = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_PARAMS = frozenset({"name", "arguments", "_meta", "uri", "taskid"})  # case-folded
_PARAMS_EXACT = frozenset({"name", "arguments", "_meta", "uri", "taskId"})
_META = frozenset({VERSION_KEY.casefold()})
_META_EXACT = frozenset({VERSION_KEY})
# A member of an enum is slow to look up on its class.
_REQUEST, _NOTIFICATION, _LEGACY, _MODERN = Kind.REQUEST, Kind.NOTIFICATION, Era.LEGACY, Era.MODERN
# Java's equalsIgnoreCase takes both for `i`; Unicode's case folding does not.
_TURKISH_I = {0x130: "i", 0x131: "i"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """The gate cannot read the request in exactly one way.

    Args:
        reason: row 1's code.
        detail: what is wrong, for the caller; never quotes arguments.
        call: what was understood before the doubt (id, method, version), for the answer.
    """

    reason: Reason
    detail: str
    call: Call = NO_CALL


def read_call(request: Request, headers: dict[str, str]) -> Call | Refusal:
    """Read the message.

    Args:
        request: the HTTP request.
        headers: from `read_headers`.
    """
    if "," in request.host:  # Envoy joins a repeated one
        return Refusal(Reason.DUPLICATE_HEADER, "header host stands more than once")
    try:
        if request.method == "POST":
            check_media_type(headers)
            return _read_message(parse(request.body, LIMITS), headers)
        return _read_bodiless(request, headers)
    except Doubtful as refused:
        return Refusal(refused.reason, refused.detail)


def _read_bodiless(request: Request, headers: dict[str, str]) -> Call | Refusal:
    if request.method not in _BODILESS:
        return Refusal(
            Reason.HTTP_METHOD_NOT_ALLOWED, "MCP knows POST, GET and DELETE (and OPTIONS, HEAD)"
        )
    if request.body:
        return Refusal(Reason.UNEXPECTED_BODY, f"{request.method} must not have a body")
    version = headers.get("mcp-protocol-version", "")
    if version and version not in KNOWN_VERSIONS:
        return _unsupported(Call(kind=Kind.NONE, protocol_version=version))
    return Call(kind=Kind.NONE, era=_era(version), protocol_version=version)


def _read_message(message: Any, headers: dict[str, str]) -> Call | Refusal:
    if isinstance(message, list):
        return Refusal(
            Reason.BATCH_NOT_SUPPORTED, "send each message in a POST of its own, not as a batch"
        )
    if not isinstance(message, dict):
        return Refusal(Reason.INVALID_ENVELOPE, "the body must be a JSON-RPC object")
    _check_case(message, _ENVELOPE, _ENVELOPE)
    if message.get("jsonrpc") != "2.0":
        return Refusal(Reason.INVALID_ENVELOPE, 'member jsonrpc must be "2.0"')
    if ("method" in message) + ("result" in message) + ("error" in message) > 1:
        return Refusal(
            Reason.AMBIGUOUS_MESSAGE, "a message has one of method, result and error, not several"
        )
    has_id = "id" in message
    rpc_id = message.get("id")
    if has_id and not _is_valid_id(rpc_id):
        return Refusal(
            Reason.INVALID_REQUEST_ID,
            f"id must be a string of at most {MAX_ID_CHARS} characters, "
            "or an integer within ±(2^53-1)",
        )
    if "method" in message:
        return _read_method(message, rpc_id, has_id, headers)
    return _read_response(message, rpc_id, has_id, headers)


def _read_response(
    message: dict[str, Any], rpc_id: str | int | None, has_id: bool, headers: dict[str, str]
) -> Call | Refusal:
    if "result" not in message and "error" not in message:
        return Refusal(Reason.INVALID_ENVELOPE, "a message needs method, result or error")
    if not has_id:
        return Refusal(Reason.INVALID_REQUEST_ID, "a response needs the id of its request")
    version = headers.get("mcp-protocol-version", "")
    call = Call(kind=Kind.RESPONSE, rpc_id=rpc_id, protocol_version=version, era=_era(version))
    if version and version not in KNOWN_VERSIONS:
        return _unsupported(call)
    if call.era is Era.MODERN:
        return Refusal(
            Reason.HEADER_MISMATCH, "revision 2026-07-28 has no responses from clients", call
        )
    return call


def _read_method(
    message: dict[str, Any], rpc_id: str | int | None, has_id: bool, headers: dict[str, str]
) -> Call | Refusal:
    method = message["method"]
    if not isinstance(method, str) or not 0 < len(method) <= MAX_METHOD_CHARS:
        return Refusal(
            Reason.INVALID_ENVELOPE,
            f"method must be a non-empty string of at most {MAX_METHOD_CHARS} characters",
        )
    if method not in _KNOWN_METHODS and reads_as_tool_call(method):
        return Refusal(
            Reason.AMBIGUOUS_METHOD, "method is not tools/call, but some servers read it so"
        )
    calls_tool = method in TOOL_CALLS
    params = message.get("params", {})
    fault = _fault(params, calls_tool)
    if calls_tool and not has_id:
        return Refusal(Reason.INVALID_REQUEST_ID, "tools/call needs an id")
    reads_tool = calls_tool and not fault
    header_version = headers.get("mcp-protocol-version", "")
    call = Call(
        kind=_REQUEST if has_id else _NOTIFICATION,
        method=method,
        tool=params["name"] if reads_tool else "",
        rpc_id=rpc_id,
        era=_era(header_version),
        protocol_version=header_version,
    )
    if fault:
        return Refusal(Reason.INVALID_PARAMS, fault, call)
    if calls_tool and not _is_plain(call.tool):
        return Refusal(
            Reason.AMBIGUOUS_TOOL_NAME,
            "params.name has spaces around it, or characters that do not print",
            call,
        )
    refusal = _check_version(call, params, headers) or _check_mcp_headers(call, params, headers)
    if refusal or not calls_tool:
        return refusal or call
    arguments = digest(canonical(params.get("arguments", {})))
    return replace(call, arguments_digest=arguments)


def _fault(params: Any, calls_tool: bool) -> str:
    """What is wrong with the types in params; empty where nothing is."""
    if not isinstance(params, dict):
        return "params must be an object"
    _check_case(params, _PARAMS, _PARAMS_EXACT)
    if calls_tool:
        tool = params.get("name")
        if not isinstance(tool, str) or not tool:
            return "params.name must be a non-empty string"
        if not isinstance(params.get("arguments", {}), dict):
            return "params.arguments must be an object"
    return ""


def _is_plain(tool: str) -> bool:
    """Of printable characters, without a space at its ends: nobody trims or cuts such a name."""
    return tool.isprintable() and tool[0] != " " and tool[-1] != " "


def _check_version(call: Call, params: dict[str, Any], headers: dict[str, str]) -> Refusal | None:
    """Header and body must state the same revision, one that we know."""
    meta = params.get("_meta", {})
    if not isinstance(meta, dict):
        return Refusal(Reason.INVALID_PARAMS, "params._meta must be an object", call)
    _check_case(meta, _META, _META_EXACT)
    header = call.protocol_version
    if VERSION_KEY in meta:
        stated = meta[VERSION_KEY]
        if not isinstance(stated, str) or stated != header:
            return Refusal(
                Reason.HEADER_MISMATCH,
                f"header mcp-protocol-version and params._meta[{VERSION_KEY!r}] must be equal",
                call,
            )
    elif call.era is _MODERN and call.kind is _REQUEST:
        return Refusal(
            Reason.INVALID_PARAMS,
            f"revision {header} needs params._meta[{VERSION_KEY!r}]",
            call,
        )
    if "mcp-protocol-version" in headers and header not in KNOWN_VERSIONS:
        # Only modern revisions are stated in the body: a later one, which we do not know yet.
        return _unsupported(replace(call, era=Era.MODERN) if VERSION_KEY in meta else call)
    return None


def _check_mcp_headers(
    call: Call, params: dict[str, Any], headers: dict[str, str]
) -> Refusal | None:
    """Mcp-Method and Mcp-Name repeat the body; modern requests must carry them."""
    modern = call.era is _MODERN and call.kind is _REQUEST
    method = headers.get("mcp-method")
    if method is None and modern:
        return Refusal(Reason.HEADER_MISMATCH, "header mcp-method is missing", call)
    if method is not None and method != call.method:
        return Refusal(Reason.HEADER_MISMATCH, "header mcp-method and the body disagree", call)
    name, member = headers.get("mcp-name"), NAMED_BY.get(call.method)
    if name is None:
        if modern and call.method in NAME_REQUIRED and member in params:
            return Refusal(Reason.HEADER_MISMATCH, "header mcp-name is missing", call)
        return None
    if member is None and call.method not in REQUESTS:
        return None  # an extension's own method: nothing to compare with
    if member is None or decode_mcp_value(name) != params.get(member):
        return Refusal(Reason.HEADER_MISMATCH, "header mcp-name and the body disagree", call)
    return None


def _unsupported(call: Call) -> Refusal:
    known = ", ".join(supported_versions(call.era))
    return Refusal(
        Reason.UNSUPPORTED_PROTOCOL_VERSION, f"mcp-protocol-version must be one of {known}", call
    )


def supported_versions(era: Era) -> tuple[str, ...]:
    """The revisions to choose from: the modern era cannot go back, the legacy one can go on."""
    return MODERN_VERSIONS if era is Era.MODERN else KNOWN_VERSIONS


def _check_case(members: dict[str, Any], folded: frozenset[str], exact: frozenset[str]) -> None:
    """Refuse `Method` for `method`: Go servers read it so (U+017F and U+212A fold too)."""
    if exact.issuperset(members):
        return
    for name in members:
        plain = name.lower() if name.isascii() else name.translate(_TURKISH_I).casefold()
        if plain in folded and name not in exact:
            raise Doubtful(
                Reason.AMBIGUOUS_KEY_CASE, "a member differs from a known one only in case"
            )


def _is_valid_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_ID_CHARS
    return type(value) is int and -MAX_ID <= value <= MAX_ID


def _era(version: str) -> Era:
    return _MODERN if version in MODERN_VERSIONS else _LEGACY

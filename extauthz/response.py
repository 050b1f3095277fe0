"""A decision, written as the CheckResponse that makes Envoy pass or answer the request."""

from functools import cache
from typing import Any

import orjson
from grpc import StatusCode

from extauthz.answers import (
    ANSWERS,
    DENIED,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    OUTAGE,
    PARSE_ERROR,
    Answer,
)
from extauthz.core.decision import Decision, DenyStyle
from extauthz.core.jsonrpc import supported_versions
from extauthz.core.reasons import Reason
from extauthz.core.request import Era, Kind
from protos.gen.envoy_core_pb2 import HeaderValueOption
from protos.gen.external_auth_pb2 import CheckResponse, OkHttpResponse

DENIAL_META = "mcpruntime.org/denial"  # where a tool result carries reason and decision id
_JSON = ("content-type", "application/json")
OVERWRITE = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD

# mcp-runtime's gateway names the identity headers where one of them is missing.
_NEEDS_HEADERS = frozenset({Reason.MISSING_IDENTITY, Reason.MISSING_SESSION})


def to_response(decision: Decision) -> bytes:
    """Write the answer, a serialised CheckResponse.

    Allowed: OK. Denied: a JSON-RPC error (for a tool call by the policy's deny style), with the
    HTTP status that makes clients show it. Both carry reason and decision id in Envoy's metadata.
    """
    if not decision.allowed:
        return _denial(decision).SerializeToString()
    before, after = _passed(decision.reason, len(decision.id))
    passed = before + decision.id.encode() + after
    if not decision.policy.sets_identity:
        return passed
    response = CheckResponse.FromString(passed)
    _set_identity(response.ok_response, decision)
    return response.SerializeToString()


@cache
def _passed(reason: Reason, length: int) -> tuple[bytes, bytes]:
    """What lets a call pass, before and after a decision id of `length` characters."""
    response = CheckResponse()
    response.status.code = StatusCode.OK.value[0]
    response.ok_response.SetInParent()
    place = "\0" * length
    response.dynamic_metadata.update({"reason": reason.value, "decision_id": place})
    before, _, after = response.SerializeToString(deterministic=True).partition(place.encode())
    return before, after


def _denial(decision: Decision) -> CheckResponse:
    answer = ANSWERS[decision.reason]
    status, body = _http(decision, answer)
    response = CheckResponse.FromString(_refused(decision.reason, status))
    response.dynamic_metadata.fields["decision_id"].string_value = decision.id
    denied = response.denied_response
    denied.body = orjson.dumps(body).decode()
    if decision.resource_metadata:
        challenge = denied.headers[-1].header
        separator = "," if " " in challenge.value else ""  # parameters of one challenge
        challenge.value += f'{separator} resource_metadata="{decision.resource_metadata}"'
    return response


@cache
def _refused(reason: Reason, status: int) -> bytes:
    """What all denials for one reason and with one HTTP status share."""
    answer, response = ANSWERS[reason], CheckResponse()
    # Envoy denies on any code but OK; what the client gets is denied_response's own status.
    outage = answer.code == OUTAGE
    code = StatusCode.UNAVAILABLE if outage else StatusCode.PERMISSION_DENIED
    response.status.code = code.value[0]
    response.dynamic_metadata.fields["reason"].string_value = reason.value
    denied = response.denied_response
    denied.status.code = status  # type: ignore[assignment]  # the enum is open
    for name, value in filter(None, (_JSON, answer.header)):
        header = denied.headers.add().header
        header.key, header.value = name, value
    return response.SerializeToString()


def _set_identity(passed: OkHttpResponse, decision: Decision) -> None:
    """Let the server see the verified identity, and nothing of what the client said instead."""
    who = decision.identity
    values = (who.human_id, who.agent_id, who.team_id, who.session_id)
    for name, value in zip(decision.policy.identity_headers, values, strict=True):
        if not value:
            passed.headers_to_remove.append(name)
            continue
        option = passed.headers.add(append_action=OVERWRITE)
        option.header.key, option.header.value = name, value


def _http(decision: Decision, answer: Answer) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of a denial."""
    call, style = decision.call, decision.policy.deny_style
    message = _message(decision, answer)
    if style is DenyStyle.HTTP_403 and answer.code > 0:
        body: dict[str, Any] = {"error": decision.reason.value, "message": message}
        body["decision_id"] = decision.id
        if decision.reason in _NEEDS_HEADERS and not decision.policy.sets_identity:
            body["required_headers"] = ", ".join(decision.policy.identity_headers)
        return answer.status, body
    if call.kind is Kind.REQUEST and answer.code in (DENIED, METHOD_NOT_FOUND):
        if style is DenyStyle.TOOL_RESULT and call.is_tool_call:
            return 200, _tool_result(decision, message)
        return 200, _error(decision, answer, message)
    # 401 is for tokens: for policy it would start a log-in.
    return 403 if answer.code == DENIED else answer.status, _error(decision, answer, message)


def _message(decision: Decision, answer: Answer) -> str:
    detail = decision.detail
    if decision.reason is Reason.TRUST_TOO_LOW and not detail:
        detail = f"needed: {decision.trust.required}, yours: {decision.trust.effective or 'none'}"
    return f"{answer.sentence} ({detail})" if detail else answer.sentence


def _error(decision: Decision, answer: Answer, message: str) -> dict[str, Any]:
    """A JSON-RPC error. What could not be read has no id, nor has what is no request."""
    call, data = decision.call, _data(decision)
    if decision.reason is Reason.UNSUPPORTED_PROTOCOL_VERSION:
        # What clients negotiate by (UnsupportedProtocolVersionErrorData of revision 2026-07-28).
        data |= {"supported": [*supported_versions(call.era)], "requested": call.protocol_version}
    known = call.kind is Kind.REQUEST and answer.code not in (PARSE_ERROR, INVALID_REQUEST)
    return {
        "jsonrpc": "2.0",
        "id": call.rpc_id if known else None,
        "error": {"code": answer.code, "message": message, "data": data},
    }


def _tool_result(decision: Decision, message: str) -> dict[str, Any]:
    """A result that says so to the model: the tool did not run."""
    result: dict[str, Any] = {
        "content": [{"type": "text", "text": f"{message} [decision {decision.id}]"}],
        "isError": True,
        "_meta": {DENIAL_META: _data(decision)},
    }
    if decision.call.era is Era.MODERN:
        result["resultType"] = "complete"
    return {"jsonrpc": "2.0", "id": decision.call.rpc_id, "result": result}


def _data(decision: Decision) -> dict[str, Any]:
    data: dict[str, Any] = {"reason": decision.reason.value, "decision_id": decision.id}
    if decision.policy.revision:
        data["policy_revision"] = decision.policy.revision
    return data

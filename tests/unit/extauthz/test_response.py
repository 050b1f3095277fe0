"""What a decision makes Envoy answer."""

import json
from typing import Any

import pytest
from mcp_types import JSONRPCError, UnsupportedProtocolVersionErrorData
from msgspec.structs import replace

from extauthz.answers import ANSWERS, DENIED, OUTAGE
from extauthz.core.decision import Decision, DenyStyle, Effect, PolicyFacts, Trust
from extauthz.core.methods import KNOWN_VERSIONS, MODERN_VERSIONS
from extauthz.core.reasons import Reason
from extauthz.core.request import NO_CALL, Call, Era, Identity, Kind
from extauthz.response import DENIAL_META, OVERWRITE, to_response
from protos.gen.external_auth_pb2 import CheckResponse

OK, PERMISSION_DENIED, UNAVAILABLE = 0, 7, 14
REVISION = "sha256:abc"
CALL = Call(method="tools/call", tool="refund", rpc_id=7, arguments_digest="sha256:args")
NOTIFICATION = Call(kind=Kind.NOTIFICATION, method="notifications/unheard")
RESPONSE = Call(kind=Kind.RESPONSE, rpc_id=3)
POLICY = [reason for reason, answer in ANSWERS.items() if answer.code == DENIED]
OUTAGES = [reason for reason, answer in ANSWERS.items() if answer.code == OUTAGE]
MALFORMED = list(Reason)[: list(Reason).index(Reason.POLICY_UNAVAILABLE)]


def denied(reason: Reason, call: Call = CALL, style: DenyStyle = DenyStyle.JSONRPC) -> Decision:
    facts = PolicyFacts(revision=REVISION, deny_style=style)
    return Decision(Effect.DENY, reason, facts, call=call, id="0190-id")


def answered(decision: Decision) -> CheckResponse:
    return CheckResponse.FromString(to_response(decision))


def told(decision: Decision) -> tuple[int, dict[str, Any]]:
    """HTTP status and parsed body of a denial."""
    response = answered(decision)
    assert response.WhichOneof("http_response") == "denied_response"
    body: dict[str, Any] = json.loads(response.denied_response.body)
    return int(response.denied_response.status.code), body


def headers(response: CheckResponse) -> dict[str, str]:
    return {o.header.key: o.header.value for o in response.denied_response.headers}


def metadata(response: CheckResponse) -> dict[str, str]:
    return {k: v.string_value for k, v in response.dynamic_metadata.fields.items()}


def test_every_reason_has_its_row() -> None:
    """No denial is without a status, a code and a sentence."""
    assert list(ANSWERS) == list(Reason)
    assert all(answer.sentence for answer in ANSWERS.values())


def test_own_codes_are_outside_the_reserved_range() -> None:
    """JSON-RPC reserves -32768 to -32000; rows of ours that are no protocol errors stay away."""
    ours = {a.code for r, a in ANSWERS.items() if r not in MALFORMED} - {-32601}
    assert all(code > 0 for code in ours)


def test_allowed_passes_unchanged() -> None:
    """Status OK, an ok_response that changes nothing."""
    response = answered(replace(denied(Reason.ALLOWED), effect=Effect.ALLOW))
    assert response.status.code == OK
    assert response.WhichOneof("http_response") == "ok_response"
    assert response.ok_response.ByteSize() == 0


@pytest.mark.parametrize("effect", list(Effect))
def test_metadata_carries_the_decision(effect: Effect) -> None:
    """On allow and on deny alike: the access log joins by it."""
    response = answered(replace(denied(Reason.TOOL_DENIED), effect=effect))
    assert metadata(response) == {
        "decision_id": "0190-id",
        "reason": "tool_denied",
    }


@pytest.mark.parametrize("rpc_id", [7, 0, -1, 2**53 - 1, "7", ""])
@pytest.mark.parametrize("reason", POLICY)
def test_denied_call_is_a_jsonrpc_error(reason: Reason, rpc_id: str | int) -> None:
    """HTTP 200 with the request's id, its type kept, the reason and the decision id."""
    status, body = told(denied(reason, replace(CALL, rpc_id=rpc_id)))
    assert status == 200
    assert body["id"] == rpc_id
    assert type(body["id"]) is type(rpc_id)
    assert body["error"]["code"] == DENIED
    assert body["error"]["data"] == {
        "reason": reason.value,
        "decision_id": "0190-id",
        "policy_revision": REVISION,
    }
    JSONRPCError.model_validate(body)


@pytest.mark.parametrize("style", list(DenyStyle))
def test_one_content_type(style: DenyStyle) -> None:
    """Every denial is JSON."""
    response = answered(denied(Reason.TOOL_DENIED, style=style))
    assert [o.header.key for o in response.denied_response.headers] == ["content-type"]
    assert headers(response)["content-type"] == "application/json"


@pytest.mark.parametrize(("era", "extra"), [(Era.LEGACY, set()), (Era.MODERN, {"resultType"})])
def test_tool_result_style(era: Era, extra: set[str]) -> None:
    """An error result for the model; the modern era says that it is complete."""
    call = replace(CALL, era=era)
    status, body = told(denied(Reason.TRUST_TOO_LOW, call, DenyStyle.TOOL_RESULT))
    result = body["result"]
    assert (status, body["id"], result["isError"]) == (200, 7, True)
    assert set(result) == {"content", "isError", "_meta"} | extra
    assert result.get("resultType", "complete") == "complete"
    assert "0190-id" in result["content"][0]["text"]
    assert result["_meta"][DENIAL_META]["reason"] == "trust_too_low"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason.MISSING_IDENTITY, 401),
        (Reason.MISSING_SESSION, 401),
        (Reason.SESSION_NOT_FOUND, 401),
        (Reason.SESSION_REVOKED, 401),
        (Reason.SESSION_EXPIRED, 401),
        (Reason.INVALID_TOKEN, 401),
        (Reason.NO_MATCHING_GRANT, 403),
        (Reason.TOOL_DENIED, 403),
        (Reason.UNTRUSTED_PEER, 403),
        (Reason.POLICY_STALE, 503),
    ],
)
def test_http_403_style(reason: Reason, expected: int) -> None:
    """The status and the body of mcp-runtime's own gateway: every member a string."""
    status, body = told(denied(reason, style=DenyStyle.HTTP_403))
    assert status == expected
    assert body["error"] == reason.value
    assert body["message"]
    assert all(isinstance(member, str) for member in body.values())


@pytest.mark.parametrize("style", [DenyStyle.JSONRPC, DenyStyle.TOOL_RESULT])
@pytest.mark.parametrize("call", [NOTIFICATION, RESPONSE, NO_CALL, replace(NO_CALL, rpc_id=9)])
@pytest.mark.parametrize("reason", [*POLICY, Reason.UNKNOWN_METHOD, Reason.UNTRUSTED_PEER])
def test_what_is_no_request_gets_403_without_id(
    reason: Reason, call: Call, style: DenyStyle
) -> None:
    """Never 401: that would start a log-in."""
    status, body = told(denied(reason, call, style))
    assert status == 403
    assert body["id"] is None
    assert "error" in body


def test_unknown_method_is_not_found() -> None:
    """In band, by the standard code, so that clients fall back to what they know."""
    call = Call(method="tools/guess", rpc_id="a")
    for style in DenyStyle:
        status, body = told(denied(Reason.UNKNOWN_METHOD, call, style))
        assert (status, body["id"], body["error"]["code"]) == (200, "a", -32601)


@pytest.mark.parametrize("style", list(DenyStyle))
@pytest.mark.parametrize("reason", MALFORMED)
def test_malformed_is_a_4xx_protocol_error(reason: Reason, style: DenyStyle) -> None:
    """Whatever the deny style, and without an id for what could not be read."""
    status, body = told(denied(reason, NO_CALL, style))
    expected = {
        Reason.HTTP_METHOD_NOT_ALLOWED: (405, -32600),
        Reason.UNSUPPORTED_MEDIA_TYPE: (415, -32600),
        Reason.INVALID_ENCODING: (400, -32700),
        Reason.MALFORMED_JSON: (400, -32700),
        Reason.INVALID_PARAMS: (400, -32602),
        Reason.HEADER_MISMATCH: (400, -32020),
        Reason.UNSUPPORTED_PROTOCOL_VERSION: (400, -32022),
    }.get(reason, (400, -32600))
    assert (status, body["error"]["code"]) == expected
    assert body["id"] is None


def test_405_names_what_is_allowed() -> None:
    """RFC 9110, section 15.5.6: a 405 has an Allow header."""
    assert "POST" in headers(answered(denied(Reason.HTTP_METHOD_NOT_ALLOWED)))["allow"]


@pytest.mark.parametrize("reason", [Reason.HEADER_MISMATCH, Reason.INVALID_PARAMS])
def test_the_id_that_was_read_is_echoed(reason: Reason) -> None:
    """The envelope was read; only the headers disagree with it, or the params are wrong."""
    assert told(denied(reason))[1]["id"] == 7


@pytest.mark.parametrize(
    ("era", "supported"), [(Era.LEGACY, KNOWN_VERSIONS), (Era.MODERN, MODERN_VERSIONS)]
)
def test_unsupported_version_lets_the_client_negotiate(
    era: Era, supported: tuple[str, ...]
) -> None:
    """The data that the SDK's clients look for, beside ours."""
    call = replace(CALL, protocol_version="2031-01-01", era=era)
    error = told(denied(Reason.UNSUPPORTED_PROTOCOL_VERSION, call))[1]["error"]
    data = UnsupportedProtocolVersionErrorData.model_validate(error["data"])
    assert data.supported == list(supported)
    assert data.requested == "2031-01-01"
    assert error["data"]["decision_id"] == "0190-id"


@pytest.mark.parametrize("style", list(DenyStyle))
@pytest.mark.parametrize("call", [CALL, NOTIFICATION, NO_CALL])
@pytest.mark.parametrize("reason", OUTAGES)
def test_an_outage_never_looks_like_a_denial(reason: Reason, call: Call, style: DenyStyle) -> None:
    """503 with Retry-After for everybody, whatever the deny style."""
    response = answered(denied(reason, call, style))
    assert response.status.code == UNAVAILABLE
    assert response.denied_response.status.code == 503
    assert int(headers(response)["retry-after"]) > 0
    assert "outage" in response.denied_response.body


def test_the_outages_are_these() -> None:
    """Where the gate itself is at fault."""
    assert set(OUTAGES) == {
        Reason.POLICY_UNAVAILABLE,
        Reason.POLICY_STALE,
        Reason.OAUTH_PROVIDER_UNAVAILABLE,
        Reason.AUDIT_UNAVAILABLE,
        Reason.INTERNAL_ERROR,
    }


@pytest.mark.parametrize("reason", [Reason.MISSING_BEARER_TOKEN, Reason.INVALID_TOKEN])
def test_a_missing_or_bad_token_is_challenged(reason: Reason) -> None:
    """401 with WWW-Authenticate, so that the client signs in."""
    response = answered(denied(reason))
    assert response.denied_response.status.code == 401
    assert headers(response)["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("reason", "challenge"),
    [
        (Reason.MISSING_BEARER_TOKEN, 'Bearer resource_metadata="https://h/m"'),
        (Reason.INVALID_TOKEN, 'Bearer error="invalid_token", resource_metadata="https://h/m"'),
    ],
)
def test_a_challenge_tells_where_to_sign_in(reason: Reason, challenge: str) -> None:
    """The URL of the server's metadata, as one more parameter of the one challenge."""
    decision = replace(denied(reason), resource_metadata="https://h/m")
    assert headers(answered(decision))["www-authenticate"] == challenge


def test_a_verified_identity_replaces_the_clients_headers() -> None:
    """In mode oauth: what the token names is set, what it does not name is taken off."""
    facts = PolicyFacts(identity_headers=("x-h", "x-a", "x-t", "x-s"), sets_identity=True)
    who = Identity(human_id="zoë", session_id="s")
    decision = Decision(Effect.ALLOW, Reason.ALLOWED, facts, identity=who, id="0190-id")
    passed = answered(decision).ok_response
    assert [(o.header.key, o.header.value) for o in passed.headers] == [
        ("x-h", "zoë"),
        ("x-s", "s"),
    ]
    assert {o.append_action for o in passed.headers} == {OVERWRITE}
    assert list(passed.headers_to_remove) == ["x-a", "x-t"]


@pytest.mark.parametrize("reason", [r for r in Reason if r not in OUTAGES])
def test_envoy_is_told_permission_denied(reason: Reason) -> None:
    """Any code but OK denies; this one also where the HTTP status is 200."""
    assert answered(denied(reason)).status.code == PERMISSION_DENIED


def test_the_detail_is_shown() -> None:
    """Row 1's own words follow the sentence."""
    decision = replace(denied(Reason.INVALID_PARAMS), detail="params must be an object")
    assert "params must be an object" in told(decision)[1]["error"]["message"]


def test_trust_too_low_names_the_levels() -> None:
    """The caller learns what is missing."""
    trust = Trust(required="high", admin="medium", effective="medium")
    message = told(replace(denied(Reason.TRUST_TOO_LOW), trust=trust))[1]["error"]["message"]
    assert "needed: high, yours: medium" in message


@pytest.mark.parametrize("style", list(DenyStyle))
def test_nothing_of_the_arguments_is_shown(style: DenyStyle) -> None:
    """Not even their digest."""
    for reason in Reason:
        response = answered(denied(reason, style=style))
        assert b"sha256:args" not in response.SerializeToString()

"""How a denial for each reason is told: HTTP status, JSON-RPC code, sentence."""

from dataclasses import dataclass

from extauthz.core.reasons import Reason

# JSON-RPC codes. Positive ones are ours, outside the range that JSON-RPC and MCP reserve; they
# read like HTTP statuses: 4010 no valid token, 4030 denied by policy, 4031 not from this address,
# 5030 the gate itself cannot decide (an outage, never a denial).
UNAUTHENTICATED, DENIED, UNTRUSTED, OUTAGE = 4010, 4030, 4031, 5030
PARSE_ERROR, INVALID_REQUEST = -32700, -32600
METHOD_NOT_FOUND, INVALID_PARAMS = -32601, -32602
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022

RETRY_AFTER_SECONDS = 5
_CHALLENGE = "www-authenticate"  # the only header of an answer that says more than its reason


@dataclass(frozen=True, slots=True)
class Answer:
    """How a denial for one reason is told.

    Args:
        status: HTTP status. A denied call is answered in band, with 200, unless the deny style is
            http_403; a denied notification with 403.
        code: JSON-RPC error code.
        sentence: why, and what to do about it; for people and for models.
        header: one more response header, (name, value).
    """

    status: int
    code: int
    sentence: str
    header: tuple[str, str] | None = None


def _malformed(sentence: str, code: int = INVALID_REQUEST) -> Answer:
    return Answer(400, code, sentence)


def _denied(sentence: str, status: int = 403) -> Answer:
    return Answer(status, DENIED, f"denied by policy: {sentence}")


def _outage(sentence: str) -> Answer:
    return Answer(503, OUTAGE, sentence, ("retry-after", str(RETRY_AFTER_SECONDS)))


_ASK = "ask the owner of this MCP server"
_RETRY = "this is an outage, not a denial; try again later"

ANSWERS: dict[Reason, Answer] = {
    Reason.HTTP_METHOD_NOT_ALLOWED: Answer(
        405,
        INVALID_REQUEST,
        "the HTTP method is not one of MCP's; send POST, GET or DELETE",
        ("allow", "POST, GET, HEAD, DELETE, OPTIONS"),
    ),
    Reason.UNEXPECTED_BODY: _malformed("this HTTP method takes no body; send none"),
    Reason.DUPLICATE_HEADER: _malformed("a header that must stand once is repeated; send it once"),
    Reason.INVALID_HEADER: _malformed(
        "a header's value is not text or has spaces around it; send plain UTF-8"
    ),
    Reason.UNSUPPORTED_MEDIA_TYPE: Answer(
        415,
        INVALID_REQUEST,
        "the body's type or encoding is not accepted; send application/json in UTF-8, not encoded",
        ("accept", "application/json"),
    ),
    Reason.INVALID_ENCODING: _malformed(
        "the body is not strict UTF-8; send UTF-8 without a byte order mark", PARSE_ERROR
    ),
    Reason.MALFORMED_JSON: _malformed("the body is not one JSON document; send one", PARSE_ERROR),
    Reason.DUPLICATE_KEY: _malformed("a JSON object names a member twice; name each once"),
    Reason.NUMBER_OUT_OF_RANGE: _malformed("a number is out of range; send a finite, shorter one"),
    Reason.NESTING_TOO_DEEP: _malformed("the JSON is nested too deeply; send at most 64 levels"),
    Reason.TOO_MANY_CONTAINERS: _malformed(
        "the body holds too many objects and lists; send at most 100,000"
    ),
    Reason.TOO_MANY_MEMBERS: _malformed(
        "the body holds too many members; send at most 25,000 members of objects, and 50,000"
        " elements of lists"
    ),
    Reason.BATCH_NOT_SUPPORTED: _malformed("batches are not accepted; send each message alone"),
    Reason.AMBIGUOUS_KEY_CASE: _malformed(
        "a member differs from a known one only in case; write it as MCP does"
    ),
    Reason.AMBIGUOUS_METHOD: _malformed(
        "the method could be read as tools/call; send tools/call exactly as MCP spells it"
    ),
    Reason.AMBIGUOUS_TOOL_NAME: _malformed(
        "the tool's name has spaces around it or characters that do not print; send it without"
    ),
    Reason.INVALID_ENVELOPE: _malformed("the body is not a JSON-RPC 2.0 message; send one"),
    Reason.AMBIGUOUS_MESSAGE: _malformed(
        "the message is a request and a response at once; send one of both"
    ),
    Reason.INVALID_REQUEST_ID: _malformed(
        "the id is missing or not usable; send a string, or an integer within ±(2^53-1)"
    ),
    Reason.INVALID_PARAMS: _malformed(
        "params are not of MCP's form; send them as MCP defines", INVALID_PARAMS
    ),
    Reason.HEADER_MISMATCH: _malformed(
        "the MCP headers and the body disagree; make them equal", HEADER_MISMATCH
    ),
    Reason.UNSUPPORTED_PROTOCOL_VERSION: _malformed(
        "the protocol version is not supported; use one of data.supported", UNSUPPORTED_VERSION
    ),
    Reason.POLICY_UNAVAILABLE: _outage(f"no valid policy is loaded; {_RETRY}"),
    Reason.POLICY_STALE: _outage(f"the policy could not be confirmed for too long; {_RETRY}"),
    Reason.UNTRUSTED_PEER: Answer(
        403, UNTRUSTED, f"your address may not reach this server; {_ASK} to trust it"
    ),
    Reason.MISSING_BEARER_TOKEN: Answer(
        401,
        UNAUTHENTICATED,
        "no bearer token came with the request; sign in and send one",
        (_CHALLENGE, "Bearer"),
    ),
    Reason.INVALID_TOKEN: Answer(
        401,
        UNAUTHENTICATED,
        "the bearer token is not valid; sign in again",
        (_CHALLENGE, 'Bearer error="invalid_token"'),
    ),
    Reason.OAUTH_PROVIDER_UNAVAILABLE: _outage(f"tokens cannot be verified now; {_RETRY}"),
    Reason.NOT_TOOL_CALL: _denied("the message calls no tool; no policy denies it"),
    Reason.UNKNOWN_METHOD: Answer(
        403, METHOD_NOT_FOUND, "MCP does not know this method, and policy denies such; use another"
    ),
    Reason.MISSING_IDENTITY: _denied(
        "the call does not say who makes it; send the identity headers of this server", 401
    ),
    Reason.MISSING_SESSION: _denied(
        "this server requires an agent session; send the session header", 401
    ),
    Reason.SESSION_NOT_FOUND: _denied("the agent session is not one of yours; open another", 401),
    Reason.SESSION_REVOKED: _denied("the agent session was revoked; open another", 401),
    Reason.SESSION_EXPIRED: _denied("the agent session has expired; open another", 401),
    Reason.GRANT_DISABLED: _denied(f"your access grant is disabled; {_ASK} to enable it"),
    Reason.GRANT_EXPIRED: _denied(f"your access grant has expired; {_ASK} to renew it"),
    Reason.NO_MATCHING_GRANT: _denied(f"no access grant covers you; {_ASK} for one"),
    Reason.TOOL_DENIED: _denied(f"an access grant denies you this tool; use another, or {_ASK}"),
    Reason.TOOL_NOT_GRANTED: _denied(f"no access grant gives you this tool; {_ASK} for it"),
    Reason.SIDE_EFFECT_NOT_ALLOWED: _denied(
        f"your access grant does not allow this tool's side effect; {_ASK}"
    ),
    Reason.TOOL_SIDE_EFFECT_UNKNOWN: _denied(
        f"the tool declares no side effect, and policy wants one; {_ASK} to declare it"
    ),
    Reason.TRUST_TOO_LOW: _denied(f"the tool needs more trust than you have; {_ASK} for more"),
    Reason.ALLOWED: _denied("the call is allowed"),
    Reason.AUDIT_UNAVAILABLE: _outage(f"the call could not be recorded; {_RETRY}"),
    Reason.INTERNAL_ERROR: _outage(f"the gate failed to decide; {_RETRY}"),
}

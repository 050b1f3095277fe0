"""The decision table (docs/decisions.md) as data: row, condition, reasons, in order.

`explain` tells decisions by it, and a test ties it to the enum of reasons and to the docs.
"""

from dataclasses import dataclass

from extauthz.core.reasons import Reason as R  # noqa: N817 - forty times below


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number, what it asks, and the reasons that it gives."""

    number: str
    condition: str
    reasons: tuple[R, ...]


TABLE = (
    Row("1", "the request can be read in exactly one way", (
        R.HTTP_METHOD_NOT_ALLOWED, R.UNEXPECTED_BODY, R.DUPLICATE_HEADER, R.INVALID_HEADER,
        R.UNSUPPORTED_MEDIA_TYPE, R.INVALID_ENCODING, R.MALFORMED_JSON, R.DUPLICATE_KEY,
        R.NUMBER_OUT_OF_RANGE, R.NESTING_TOO_DEEP, R.TOO_MANY_CONTAINERS, R.TOO_MANY_MEMBERS,
        R.BATCH_NOT_SUPPORTED, R.AMBIGUOUS_KEY_CASE, R.AMBIGUOUS_METHOD, R.AMBIGUOUS_TOOL_NAME,
        R.INVALID_ENVELOPE, R.AMBIGUOUS_MESSAGE, R.INVALID_REQUEST_ID, R.INVALID_PARAMS,
        R.HEADER_MISMATCH, R.UNSUPPORTED_PROTOCOL_VERSION,
    )),
    Row("2", "a valid policy document is there and fresh", (R.POLICY_UNAVAILABLE, R.POLICY_STALE)),
    Row("2a", "the direct peer may speak for others", (R.UNTRUSTED_PEER,)),
    Row("2b", "in mode oauth the bearer token is there and valid", (
        R.MISSING_BEARER_TOKEN, R.INVALID_TOKEN, R.OAUTH_PROVIDER_UNAVAILABLE,
    )),
    Row("3", "it is a tool call, or a method that MCP does not know", (R.NOT_TOOL_CALL,)),
    Row("3a", "MCP knows the method", (R.UNKNOWN_METHOD,)),
    Row("4", "the caller is identified", (R.MISSING_IDENTITY,)),
    Row("5", "the required session is given and the caller's own", (
        R.MISSING_SESSION, R.SESSION_NOT_FOUND,
    )),
    Row("5a", "the session named is neither revoked nor expired", (
        R.SESSION_REVOKED, R.SESSION_EXPIRED,
    )),
    Row("6", "if grants are for the caller, one of them is enabled and unexpired", (
        R.GRANT_DISABLED, R.GRANT_EXPIRED,
    )),
    Row("6a", "a grant is for the caller", (R.NO_MATCHING_GRANT,)),
    Row("7", "no grant denies the tool", (R.TOOL_DENIED,)),
    Row("8", "a grant covers the tool", (R.TOOL_NOT_GRANTED,)),
    Row("9", "a covering grant allows the tool's side effect", (
        R.SIDE_EFFECT_NOT_ALLOWED, R.TOOL_SIDE_EFFECT_UNKNOWN,
    )),
    Row("10", "a covering grant, with the session, is trusted enough", (R.TRUST_TOO_LOW,)),
    Row("11", "nothing stands against it", (R.ALLOWED,)),
)  # fmt: skip

# Reasons that stand beside the table: the gate itself failed.
BESIDE = (R.AUDIT_UNAVAILABLE, R.INTERNAL_ERROR)

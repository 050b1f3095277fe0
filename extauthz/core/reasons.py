"""Reason codes: why a call was decided as it was. One enum for code, events and docs."""

from extauthz.core.code import Code


class Reason(Code):
    """In the order of the decision table (docs/decisions.md); a test ties the two together."""

    # Row 1: what cannot be read in exactly one way.
    HTTP_METHOD_NOT_ALLOWED = "http_method_not_allowed"  # not POST, GET, HEAD, DELETE or OPTIONS
    UNEXPECTED_BODY = "unexpected_body"  # a body where the method has none
    DUPLICATE_HEADER = "duplicate_header"  # a header that must stand once stands twice
    INVALID_HEADER = "invalid_header"  # a header whose value is not UTF-8, or has spaces around it
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"  # not one application/json, or encoded
    INVALID_ENCODING = "invalid_encoding"  # not strict UTF-8, a BOM, a lone surrogate
    MALFORMED_JSON = "malformed_json"  # not one JSON document
    DUPLICATE_KEY = "duplicate_key"  # at any depth, also through escapes
    NUMBER_OUT_OF_RANGE = "number_out_of_range"  # NaN, Infinity, 1e999, 5,000 digits
    NESTING_TOO_DEEP = "nesting_too_deep"  # deeper than 64
    TOO_MANY_CONTAINERS = "too_many_containers"  # more than 100,000 objects and lists
    TOO_MANY_MEMBERS = "too_many_members"  # more than 25,000, or 50,000 commas
    BATCH_NOT_SUPPORTED = "batch_not_supported"  # a JSON-RPC batch
    AMBIGUOUS_KEY_CASE = "ambiguous_key_case"  # `Method`: some servers read it as `method`
    AMBIGUOUS_METHOD = "ambiguous_method"  # `Tools/Call`: some servers read it as `tools/call`
    AMBIGUOUS_TOOL_NAME = "ambiguous_tool_name"  # spaces around it, or what does not print
    INVALID_ENVELOPE = "invalid_envelope"  # not a JSON-RPC 2.0 request, notification or response
    AMBIGUOUS_MESSAGE = "ambiguous_message"  # method together with result or error
    INVALID_REQUEST_ID = "invalid_request_id"  # float, bool, null, list, too large; or none
    INVALID_PARAMS = "invalid_params"  # params, name or arguments of the wrong type
    HEADER_MISMATCH = "header_mismatch"  # MCP headers and body disagree
    UNSUPPORTED_PROTOCOL_VERSION = "unsupported_protocol_version"  # not a revision we know
    # Row 2
    POLICY_UNAVAILABLE = "policy_unavailable"
    POLICY_STALE = "policy_stale"
    # Row 2a, 2b
    UNTRUSTED_PEER = "untrusted_peer"
    MISSING_BEARER_TOKEN = "missing_bearer_token"  # noqa: S105
    INVALID_TOKEN = "invalid_token"  # noqa: S105
    OAUTH_PROVIDER_UNAVAILABLE = "oauth_provider_unavailable"
    # Row 3, 3a
    NOT_TOOL_CALL = "not_tool_call"
    UNKNOWN_METHOD = "unknown_method"
    # Rows 4 to 5a
    MISSING_IDENTITY = "missing_identity"
    MISSING_SESSION = "missing_session"
    SESSION_NOT_FOUND = "session_not_found"
    SESSION_REVOKED = "session_revoked"
    SESSION_EXPIRED = "session_expired"
    # Rows 6 to 11
    GRANT_DISABLED = "grant_disabled"
    GRANT_EXPIRED = "grant_expired"
    NO_MATCHING_GRANT = "no_matching_grant"
    TOOL_DENIED = "tool_denied"
    TOOL_NOT_GRANTED = "tool_not_granted"
    SIDE_EFFECT_NOT_ALLOWED = "side_effect_not_allowed"
    TOOL_SIDE_EFFECT_UNKNOWN = "tool_side_effect_unknown"
    TRUST_TOO_LOW = "trust_too_low"
    ALLOWED = "allowed"
    # Beside the table
    AUDIT_UNAVAILABLE = "audit_unavailable"  # durable audit could not be written
    INTERNAL_ERROR = "internal_error"  # a bug; denied all the same

"""Custom resources, good and bad, with the words of those who refuse them."""

from dataclasses import dataclass
from typing import Any

from tests.tools.kube_objects import Cause
from tests.unit.extauthz.core.objects import grant, server, session

# What the API server adds where an object's shape is too wrong for the rules to be asked.
UNASKED = Cause(
    "<nil>",
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
)


@dataclass(frozen=True, slots=True)
class Case:
    """An object that `core.resources` refuses.

    Args:
        value: the object.
        field: where `core.resources` says that it is wrong.
        sentence: what it says there.
        causes: what the API server says; none where it takes the object.
    """

    value: Any
    field: str
    sentence: str
    causes: tuple[Cause, ...]


def _rule(value: Any, field: str, sentence: str, kind: str = "string", at: str = "") -> Case:
    """Refused by a rule, for which both have the same words."""
    text = f'Invalid value: "{kind}": {sentence}'
    return Case(value, field, sentence, (Cause(at or field, text),))


def _shape(value: Any, field: str, sentence: str, text: str) -> Case:
    """Refused for its shape, for which the API server has its own words."""
    return Case(value, field, sentence, (Cause(field, text), UNASKED))


def _twice(value: Any, field: str, sentence: str, name: str) -> Case:
    """A second item of one name: the API server says so of the item, and of the list."""
    items, item = field.rpartition("[")[0], field.removesuffix(".name")
    text = f'Invalid value: "array": {sentence}'
    double = Cause(item, f'Duplicate value: {{"name":"{name}"}}')
    return Case(value, field, sentence, (double, Cause(items, text)))


def _unknown(value: Any, field: str, sentence: str) -> Case:
    kind = value["kind"]
    text = (
        f'{kind} in version "v1alpha1" cannot be handled as a {kind}: '
        f'strict decoding error: unknown field "{field}"'
    )
    return Case(value, field, sentence, (Cause("", text),))


_TIME = "write it like 2026-12-31T23:59:59Z"
_LEVELS = 'supported values: "low", "medium", "high"'

REFUSED = {
    "a subject that names nobody": _rule(
        grant(subject={}),
        "spec.subject",
        "names nobody; set humanID, agentID or teamID",
        "object",
    ),
    "a subject of empty names": _rule(
        session(subject={"agentID": ""}),
        "spec.subject",
        "names nobody; set humanID, agentID or teamID",
        "object",
    ),
    "no subject": _shape(
        grant(subject=None),
        "spec.subject",
        "names nobody; set humanID, agentID or teamID",
        "Required value",
    ),
    "two rules for one tool": _twice(
        grant(toolRules=[{"name": "add"}, {"name": "add", "decision": "deny"}]),
        "spec.toolRules[1].name",
        "second rule for tool `add`; keep one of them",
        "add",
    ),
    "one tool twice": _twice(
        server(tools=[{"name": "add"}, {"name": "sub"}, {"name": "add"}]),
        "spec.tools[2].name",
        "second tool `add`; keep one of them",
        "add",
    ),
    "a trust that can never be reached": _rule(
        grant(
            maxTrust="medium", toolRules=[{"name": "add"}, {"name": "del", "requiredTrust": "high"}]
        ),
        "spec.toolRules[1]",
        "never allows `del`: the rule needs trust high, and maxTrust is medium; "
        "raise maxTrust, or remove the rule",
        "object",
        "spec",
    ),
    "a trust that can never be reached, for none is given": _rule(
        grant(toolRules=[{"name": "add", "requiredTrust": "medium"}]),
        "spec.toolRules[0]",
        "never allows `add`: the rule needs trust medium, and maxTrust is low; "
        "raise maxTrust, or remove the rule",
        "object",
        "spec",
    ),
    "side effects of which none is listed": _rule(
        grant(allowedSideEffects=[]),
        "spec.allowedSideEffects",
        "is empty; list some of read, write, destructive, or leave it out to allow all",
        "array",
    ),
    "white space around an identity": _rule(
        grant(subject={"agentID": " a"}),
        "spec.subject.agentID",
        "has white space around it; remove it",
    ),
    "no time": _rule(
        grant(expiresAt="tomorrow"),
        "spec.expiresAt",
        f"`tomorrow` is not an RFC 3339 time; {_TIME}",
    ),
    "a day that there is not": _rule(
        session(expiresAt="2026-02-30T00:00:00Z"),
        "spec.expiresAt",
        f"`2026-02-30T00:00:00Z` is not an RFC 3339 time; {_TIME}",
    ),
    "a time without its zone": _rule(
        session(expiresAt="2026-02-03T00:00:00"),
        "spec.expiresAt",
        f"`2026-02-03T00:00:00` is not an RFC 3339 time; {_TIME}",
    ),
    "a zone that there is not": _rule(
        session(expiresAt="2026-02-03T00:00:00+24:00"),
        "spec.expiresAt",
        f"`2026-02-03T00:00:00+24:00` is not an RFC 3339 time; {_TIME}",
    ),
    "no duration": _rule(
        server(policy={"maxStaleness": "soon"}),
        "spec.policy.maxStaleness",
        "`soon` is not a duration; write it like 24h, 1h30m or 90s",
    ),
    "a life of no length": _rule(
        server(session={"enforceMaxLifetime": True, "maxLifetime": "0h0m0.0s"}),
        "spec.session.maxLifetime",
        "is zero and enforced; set a longer time",
        "object",
        "spec.session",
    ),
    "a header that Envoy refuses": _rule(
        server(auth={"agentIDHeader": "X_Agent"}),
        "spec.auth.agentIDHeader",
        "`X_Agent` is not a header name; "
        "use letters, digits and `-` (no underscore: Envoy refuses those)",
    ),
    "a block with bits beyond its prefix": _rule(
        server(auth={"trustedPeers": ["fe80::/10", "10.0.0.1/8"]}),
        "spec.auth.trustedPeers[1]",
        "`10.0.0.1/8` is not a CIDR block; write it like 10.0.0.0/8, no bit set beyond the prefix",
    ),
    "a namespace that there cannot be": _rule(
        server(policy={"allowedNamespaces": ["Team-A"]}),
        "spec.policy.allowedNamespaces[0]",
        "`Team-A` is not a Kubernetes name; "
        "use lower-case letters and digits, `-` and `.` between them, at most 253",
    ),
    "an unknown trust": _shape(
        grant(maxTrust="hihg"),
        "spec.maxTrust",
        "unknown value `hihg`; use low, medium or high",
        f'Unsupported value: "hihg": {_LEVELS}',
    ),
    "a flag in quotes": _shape(
        grant(disabled="true"),
        "spec.disabled",
        "must be true or false, not a string; write it unquoted",
        'Invalid value: "string": spec.disabled in body must be of type boolean: "string"',
    ),
    "no server": _shape(
        grant(serverRef={}),
        "spec.serverRef.name",
        "is required; set `name`",
        "Required value",
    ),
    "a rule for no tool": _shape(
        grant(toolRules=[{"decision": "deny"}]),
        "spec.toolRules[0].name",
        "is required; set `name`",
        "Required value",
    ),
    "a limit with a typo": _unknown(
        grant(expiresAT="2027-01-01T00:00:00Z"),
        "spec.expiresAT",
        "is not a known field; did you mean `expiresAt`?",
    ),
}


def _later(value: Any, field: str, sentence: str) -> Case:
    return Case(value, field, sentence, ())


# mcp-runtime writes such servers, or its own fields may be called so: the API server takes them,
# and the controller says in their status what `core.resources` says.
TAKEN = {
    "a mode of mcp-runtime's": _later(
        server(auth={"mode": "mtls"}),
        "spec.auth.mode",
        "`mtls` is not supported yet; use header or oauth",
    ),
    "an issuer that mcp-runtime finds": _later(
        server(auth={"mode": "oauth"}),
        "spec.auth.issuerURL",
        "is required in mode oauth; set the issuer's URL",
    ),
    "an audience that mcp-runtime finds": _later(
        server(auth={"mode": "oauth", "issuerURL": "https://issuer.example"}),
        "spec.auth.audience",
        "is required in mode oauth; set who tokens are for",
    ),
    "an issuer without TLS": _later(
        server(auth={"mode": "oauth", "issuerURL": "http://issuer.example", "audience": "mcp"}),
        "spec.auth.issuerURL",
        "`http://issuer.example` is not https; keys are fetched over https alone",
    ),
    "a server's field with a typo": _later(
        server(policy={"defaultDecison": "allow"}),
        "spec.policy.defaultDecison",
        "is not a known field; did you mean `defaultDecision`? rename it",
    ),
}

"""The custom resources as tables: which fields there are, of which type, by which rules.

`resources` refuses what stands in no table; the custom resource definitions (`k8s/crds/`) are
written from them. Tests hold both to one corpus.
"""

from dataclasses import replace
from typing import Final

from extauthz.core import rules
from extauthz.core.model import (
    AGENT_HEADER,
    AUTH_MODES,
    DECISIONS,
    DENY_STYLES,
    GUARDS,
    HUMAN_HEADER,
    POLICY_MODES,
    SESSION_HEADER,
    SIDE_EFFECTS,
    TEAM_HEADER,
    TOKEN_HEADER,
    TRUST_LEVELS,
)
from extauthz.core.shapes import Flag, Foreign, Items, Labels, Prose, Record, Text

MOST_OF_TOOL: Final = 128  # characters of a tool's name, as MCP has it
MOST_TOOLS: Final = 1000
MOST_LISTED: Final = 256


def _header(doc: str, default: str = "") -> Text:
    told = f"{doc} Unset: {default}." if default else doc
    return Text(told, rule=rules.HEADER_NAME)


def _claim(doc: str) -> Text:
    return Text(f"The token's claim that carries {doc}.")


_TRUST: Final = "low, medium or high"
CLAIMS: Final = Record(
    "Claims that carry identity; unset ones mean the usual claims.",
    {
        "humanID": _claim("the human"),
        "agentID": _claim("the agent"),
        "teamID": _claim("the team"),
        "sessionID": _claim("the session"),
    },
)
AUTH: Final = Record(
    "How callers are identified.",
    {
        "mode": Text(
            "none; header: by headers that whoever reaches the port may set, unless trustedPeers "
            "says who; oauth: by a verified token. Unset: header. mtls is mcp-runtime's, and not "
            "enforced here: status says so.",
            (*AUTH_MODES, "mtls"),
        ),
        "humanIDHeader": _header("The header that names the human.", HUMAN_HEADER),
        "agentIDHeader": _header("The header that names the agent.", AGENT_HEADER),
        "teamIDHeader": _header("The header that names the team.", TEAM_HEADER),
        "sessionIDHeader": _header("The header that names the session.", SESSION_HEADER),
        "tokenHeader": _header("The header that carries the token.", TOKEN_HEADER),
        "issuerURL": Text("Who issues tokens (mode oauth, which needs it)."),
        "audience": Text("Whom tokens are for (mode oauth, which needs it)."),
        "jwksURL": Text("Where the issuer's keys are; unset: where the issuer says."),
        "claims": CLAIMS,
        "trustedPeers": Items(
            "CIDR blocks that callers must come from (mode header).",
            Text("A CIDR block, like 10.0.0.0/8.", rule=rules.CIDR, most=64),
            MOST_LISTED,
        ),
        "trustDomain": Foreign(),
    },
    is_open=True,
)
POLICY: Final = Record(
    "How calls are decided.",
    {
        "mode": Text(
            "allow-list: deny what is not granted; observe: let it pass, and record it.",
            POLICY_MODES,
            "allow-list",
        ),
        "defaultDecision": Text("Where no grant speaks.", DECISIONS, "deny"),
        "enforceOn": Text("mcp-runtime's; calls of tools are what is decided.", ("call_tool",)),
        "policyVersion": Text("Your name for this policy; events carry it.", default="v1"),
        "denyStyle": Text("How a denial reads to the client. Unset: jsonrpc.", DENY_STYLES),
        "unknownMethods": Text(
            "What to do with methods that MCP does not know. Unset: allow.", DECISIONS
        ),
        "sideEffectGuard": Text(
            "required: a grant allows no tool whose side effect it does not list. Unset: whenSet, "
            "for grants that set allowedSideEffects alone.",
            GUARDS,
        ),
        "maxStaleness": Text(
            "Deny once the policy is older than this, like 10m. Unset: never.",
            rule=rules.DURATION,
        ),
        "allowedNamespaces": Items(
            "Other namespaces whose grants and sessions count for this server.",
            Text("A namespace.", rule=rules.KUBERNETES_NAME, most=253),
            MOST_LISTED,
        ),
    },
    is_open=True,
)
SESSION_SPEC: Final = Record(
    "What is asked of sessions.",
    {
        "required": Flag("A call without a session is denied."),
        "store": Foreign(),
        "headerName": _header("The header that names the session, before auth.sessionIDHeader."),
        "maxLifetime": Text(
            "The longest life of a session, enforced where enforceMaxLifetime is true.",
            default="24h",
            rule=rules.DURATION,
        ),
        "enforceMaxLifetime": Flag("End sessions maxLifetime after their creation."),
        "idleTimeout": Text(
            "mcp-runtime's; shown, not enforced.", default="1h", rule=rules.DURATION
        ),
        "upstreamTokenHeader": Foreign(),
    },
    (rules.LIFETIME_LASTS,),
    is_open=True,
)
TOOL: Final = Record(
    "A tool.",
    {
        "name": Text("As MCP names it.", most=MOST_OF_TOOL, required=True),
        "description": Prose("For people."),
        "requiredTrust": Text(f"The trust that a call needs: {_TRUST}.", TRUST_LEVELS, "low"),
        "sideEffect": Text("What a call may do. Unset: unknown.", SIDE_EFFECTS),
        "riskLevel": Text("For people and events; decides nothing.", TRUST_LEVELS),
        "labels": Labels("For people and dashboards."),
    },
    is_open=True,
)

SERVER_REF: Final = Record(
    "The MCPServer that it is for; stays the same for life.",
    {
        "name": Text("The MCPServer's name.", most=253, required=True),
        "namespace": Text("The MCPServer's namespace; unset: the object's own.", most=253),
    },
    (rules.SERVER_STAYS,),
    required=True,
)
SUBJECT: Final = Record(
    "Whom it is for: all that is set must match.",
    {
        "humanID": Text("The human, as the caller is identified."),
        "agentID": Text("The agent, as the caller is identified."),
        "teamID": Text("The team, as callers are identified; unset: the server's, if it has one."),
    },
    (rules.SUBJECT_NAMED,),
    required=True,
)
_EXPIRES: Final = Text(
    "When it ends, like 2026-12-31T23:59:59Z; unset: never.", rule=rules.INSTANT, most=64
)
_VERSION: Final = Text("Your name for this version; events carry it.")
RULE: Final = Record(
    "A tool, allowed or denied.",
    {
        "name": Text("The tool, exactly as MCP names it.", most=MOST_OF_TOOL, required=True),
        "decision": Text("allow or deny.", DECISIONS, "allow"),
        "requiredTrust": Text(
            "The trust that a call needs beside what the tool itself asks.", TRUST_LEVELS
        ),
    },
)

SERVER: Final = Record(
    "The part of an MCP server that is governed; all else that mcp-runtime writes is kept.",
    {
        "teamID": Text("The team that owns the server."),
        "auth": AUTH,
        "policy": POLICY,
        "session": SESSION_SPEC,
        "tools": Items(
            "The tools that the server declares.", TOOL, MOST_TOOLS, (rules.TOOLS_DIFFER,), "name"
        ),
    },
    is_open=True,
)
GRANT: Final = Record(
    "Who may call which tools of a server, how far trusted, for how long.",
    {
        "serverRef": SERVER_REF,
        "subject": SUBJECT,
        "maxTrust": Text(f"How far the subject is trusted: {_TRUST}.", TRUST_LEVELS, "low"),
        "toolRules": Items(
            "The tools that it covers; without any it covers all.",
            RULE,
            MOST_TOOLS,
            (rules.RULES_DIFFER,),
            "name",
        ),
        "allowedSideEffects": Items(
            "The side effects that its tools may have; unset: any.",
            Text("A side effect.", SIDE_EFFECTS),
            16,
            (rules.EFFECTS_LISTED,),
        ),
        "policyVersion": _VERSION,
        "disabled": Flag("It has no effect, its deny rules included.", is_stored=True),
        "expiresAt": _EXPIRES,
    },
    (rules.TRUST_REACHED,),
)
SESSION: Final = Record(
    "A subject's session with a server, with the trust that was consented to.",
    {
        "serverRef": SERVER_REF,
        "subject": replace(SUBJECT, rules=(rules.SUBJECT_NAMED, rules.SUBJECT_STAYS)),
        "consentedTrust": Text(f"The trust consented to: {_TRUST}.", TRUST_LEVELS, "low"),
        "expiresAt": _EXPIRES,
        "revoked": Flag("It has ended.", is_stored=True),
        "policyVersion": _VERSION,
        "upstreamTokenSecretRef": Foreign("mcp-runtime's upstream token; not used here."),
    },
)
KINDS: Final = {"MCPServer": SERVER, "MCPAccessGrant": GRANT, "MCPAgentSession": SESSION}

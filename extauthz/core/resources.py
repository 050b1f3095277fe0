"""Reads custom resources as people write them: defaults, validation, and the mend."""

import ipaddress
import re
from collections.abc import Callable, Iterable

from extauthz.core import rules, schema
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.fields import Fields
from extauthz.core.model import (
    AGENT_HEADER,
    API_VERSION,
    AUTH_MODES,
    DECISIONS,
    DEFAULT_NAMESPACE,
    DENY_STYLES,
    GUARDS,
    HUMAN_HEADER,
    POLICY_MODES,
    SESSION_HEADER,
    SIDE_EFFECTS,
    TEAM_HEADER,
    TOKEN_HEADER,
    TRUST_LEVELS,
    Auth,
    Claims,
    MCPAccessGrant,
    MCPAgentSession,
    MCPServer,
    PolicySpec,
    Resource,
    SessionSpec,
    Subject,
    ToolRule,
    ToolSpec,
)
from extauthz.core.shapes import within
from extauthz.core.times import parse_duration
from extauthz.core.urls import check_key_url

_LABEL = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")  # RFC 1123 subdomain
_MOST_IN_NAME = 253
_HEADER = re.compile(r"[!#$%&'*+\-.^`|~0-9A-Za-z]+")  # RFC 9110 token; Envoy refuses underscores


def parse_object(value: object) -> Resource:
    """Read one custom resource.

    Args:
        value: the object as parsed from YAML or JSON.

    Raises:
        Invalid: with the field's path and the mend.
    """
    root = Fields(value)
    root.only(frozenset({"apiVersion", "kind", "metadata", "spec", "status"}))
    root.choice("apiVersion", (API_VERSION,), root.required_text("apiVersion"))
    kind = root.choice("kind", tuple(_READERS), root.required_text("kind"))
    meta = root.object("metadata")
    name, namespace = meta.required_text("name"), meta.text("namespace", DEFAULT_NAMESPACE)
    check_name(name, meta.at("name"))
    check_name(namespace, meta.at("namespace"))
    return _READERS[kind](namespace, name, root.object("spec"), meta)


def check_name(name: str, where: str) -> None:
    """Refuse a name that Kubernetes would refuse.

    Raises:
        Invalid: at `where`.
    """
    if len(name) > _MOST_IN_NAME or not _NAME.fullmatch(name):
        raise rules.KUBERNETES_NAME.refusal(where, name)


def _server(namespace: str, name: str, spec: Fields, _meta: Fields) -> MCPServer:
    within(spec, schema.SERVER)
    tools = tuple(_tool(item) for item in spec.objects("tools"))
    _check_unique((tool.name for tool in tools), spec.at("tools"), rules.TOOLS_DIFFER)
    return MCPServer(
        namespace=namespace,
        name=name,
        team_id=spec.text("teamID"),
        auth=_auth(spec.object("auth")),
        policy=_policy(spec.object("policy")),
        session=_session_spec(spec.object("session")),
        tools=tools,
    )


def _auth(auth: Fields) -> Auth:
    within(auth, schema.AUTH)
    if auth.text("mode") == "mtls":
        raise Invalid(auth.at("mode"), "`mtls` is not supported yet", "use header or oauth")
    mode = auth.choice("mode", AUTH_MODES, "header")
    if mode == "oauth":
        _check_oauth(auth)
    claims = within(auth.object("claims"), schema.CLAIMS)
    return Auth(
        mode=mode,
        human_id_header=header_name(auth, "humanIDHeader", HUMAN_HEADER),
        agent_id_header=header_name(auth, "agentIDHeader", AGENT_HEADER),
        team_id_header=header_name(auth, "teamIDHeader", TEAM_HEADER),
        session_id_header=header_name(auth, "sessionIDHeader", SESSION_HEADER),
        token_header=header_name(auth, "tokenHeader", TOKEN_HEADER),
        issuer_url=auth.text("issuerURL"),
        audience=auth.text("audience"),
        jwks_url=auth.text("jwksURL"),
        claims=Claims(*(claims.text(n) for n in ("humanID", "agentID", "teamID", "sessionID"))),
        trusted_peers=networks(auth, "trustedPeers"),
    )


def _check_oauth(auth: Fields) -> None:
    for name, what in (("issuerURL", "the issuer's URL"), ("audience", "who tokens are for")):
        if not auth.text(name):
            raise Invalid(auth.at(name), "is required in mode oauth", f"set {what}")
    where = "jwksURL" if auth.text("jwksURL") else "issuerURL"
    check_key_url(auth.text(where), auth.at(where))


def header_name(fields: Fields, name: str, default: str) -> str:
    """A header's name that Envoy lets pass.

    Raises:
        Invalid: where it could never arrive.
    """
    value = fields.text(name, default)
    if value and not _HEADER.fullmatch(value):
        raise rules.HEADER_NAME.refusal(fields.at(name), value)
    return value


def networks(fields: Fields, name: str) -> tuple[str, ...]:
    """A list of CIDR blocks.

    Raises:
        Invalid: at the first that is none.
    """
    found = fields.texts(name)
    for i, text in enumerate(found):
        if not _is_network(text):
            raise rules.CIDR.refusal(f"{fields.at(name)}[{i}]", text)
    return found


def _is_network(text: str) -> bool:
    """As CEL's `isCIDR` has it: with a prefix length, without a zone, IPv4 as IPv4."""
    try:
        address = ipaddress.ip_network(text).network_address
    except ValueError:
        return False
    is_mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None
    return "/" in text and "." not in text.rpartition("/")[2] and "%" not in text and not is_mapped


def _policy(policy: Fields) -> PolicySpec:
    within(policy, schema.POLICY)
    policy.choice("enforceOn", ("call_tool",))
    allowed = policy.texts("allowedNamespaces")
    for i, namespace in enumerate(allowed):
        check_name(namespace, f"{policy.at('allowedNamespaces')}[{i}]")
    return PolicySpec(
        mode=policy.choice("mode", POLICY_MODES, "allow-list"),
        default_decision=policy.choice("defaultDecision", DECISIONS, "deny"),
        policy_version=policy.text("policyVersion", "v1"),
        deny_style=policy.choice("denyStyle", DENY_STYLES, "jsonrpc"),
        unknown_methods=policy.choice("unknownMethods", DECISIONS, "allow"),
        side_effect_guard=policy.choice("sideEffectGuard", GUARDS, "whenSet"),
        max_staleness=policy.duration("maxStaleness"),
        allowed_namespaces=allowed,
    )


def _session_spec(session: Fields) -> SessionSpec:
    within(session, schema.SESSION_SPEC)
    spec = SessionSpec(
        required=session.flag("required"),
        header_name=header_name(session, "headerName", ""),
        max_lifetime=session.duration("maxLifetime") or "24h",
        enforce_max_lifetime=session.flag("enforceMaxLifetime"),
        idle_timeout=session.duration("idleTimeout") or "1h",
    )
    if spec.enforce_max_lifetime and not parse_duration(spec.max_lifetime, ""):
        raise rules.LIFETIME_LASTS.refusal(session.at("maxLifetime"))
    return spec


def _tool(tool: Fields) -> ToolSpec:
    within(tool, schema.TOOL)
    return ToolSpec(
        name=tool.required_text("name"),
        description=tool.prose("description"),
        required_trust=tool.choice("requiredTrust", TRUST_LEVELS, "low"),
        side_effect=tool.choice("sideEffect", SIDE_EFFECTS),
        risk_level=tool.choice("riskLevel", TRUST_LEVELS),
        labels=tuple(sorted(tool.text_map("labels").items())),
    )


def _grant(namespace: str, name: str, spec: Fields, _meta: Fields) -> MCPAccessGrant:
    within(spec, schema.GRANT)
    tool_rules = tuple(_rule(item) for item in spec.objects("toolRules"))
    _check_unique((rule.name for rule in tool_rules), spec.at("toolRules"), rules.RULES_DIFFER)
    effects = spec.texts("allowedSideEffects", SIDE_EFFECTS)
    if spec.has("allowedSideEffects") and not effects:
        raise rules.EFFECTS_LISTED.refusal(spec.at("allowedSideEffects"))
    return MCPAccessGrant(
        namespace=namespace,
        name=name,
        server=_server_ref(spec, namespace),
        subject=_subject(spec),
        max_trust=spec.choice("maxTrust", TRUST_LEVELS, "low"),
        tool_rules=tool_rules,
        allowed_side_effects=effects,
        policy_version=spec.text("policyVersion"),
        disabled=spec.flag("disabled"),
        expires_at=spec.instant("expiresAt"),
    )


def _rule(rule: Fields) -> ToolRule:
    within(rule, schema.RULE)
    return ToolRule(
        name=rule.required_text("name"),
        decision=rule.choice("decision", DECISIONS, "allow"),
        required_trust=rule.choice("requiredTrust", TRUST_LEVELS),
    )


def _session(namespace: str, name: str, spec: Fields, meta: Fields) -> MCPAgentSession:
    within(spec, schema.SESSION)
    return MCPAgentSession(
        namespace=namespace,
        name=name,
        server=_server_ref(spec, namespace),
        subject=_subject(spec),
        consented_trust=spec.choice("consentedTrust", TRUST_LEVELS, "low"),
        expires_at=spec.instant("expiresAt"),
        revoked=spec.flag("revoked"),
        policy_version=spec.text("policyVersion"),
        created_at=meta.instant("creationTimestamp"),
    )


def _server_ref(spec: Fields, namespace: str) -> ObjectRef:
    ref = within(spec.object("serverRef"), schema.SERVER_REF)
    return ObjectRef(ref.text("namespace", namespace), ref.required_text("name"))


def _subject(spec: Fields) -> Subject:
    fields = within(spec.object("subject"), schema.SUBJECT)
    subject = Subject(fields.text("humanID"), fields.text("agentID"), fields.text("teamID"))
    if subject == Subject():
        raise rules.SUBJECT_NAMED.refusal(fields.path)
    return subject


def _check_unique(names: Iterable[str], where: str, rule: rules.Rule) -> None:
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name in seen:
            raise rule.refusal(f"{where}[{i}].name", name)
        seen.add(name)


_READERS: dict[str, Callable[[str, str, Fields, Fields], Resource]] = {
    "MCPServer": _server,
    "MCPAccessGrant": _grant,
    "MCPAgentSession": _session,
}

"""Policy document to `Policy`; what does not validate is refused, with path and mend."""

import gc
import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from extauthz.core.bindings import compile_grants, compile_sessions
from extauthz.core.decision import DenyStyle, Effect, PolicyFacts
from extauthz.core.errors import Invalid
from extauthz.core.fields import Fields
from extauthz.core.headers import SINGLE
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
from extauthz.core.policy import (
    NEVER,
    RANKS,
    IdentityHeaders,
    OAuth,
    Policy,
    Tool,
)
from extauthz.core.resources import header_name, networks
from extauthz.core.revision import compatible_revision, content_digest
from extauthz.core.strictjson import Doubtful, parse
from extauthz.core.times import parse_duration, parse_instant
from extauthz.core.urls import check_key_url

# Claims that carry identity where the document maps none; the first that a token has counts.
_CLAIMS = {
    "human_id": ("sub",),
    "agent_id": ("azp", "client_id"),
    "team_id": ("team_id", "tenant_id", "tid"),
    "session_id": ("sid",),
}


@contextmanager
def _uncollected() -> Iterator[None]:
    """Make millions of objects, none of them garbage, without looking through them for any."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_uncollected()
def load_document(raw: bytes) -> dict[str, Any]:
    """Parse a policy document's bytes.

    Raises:
        Invalid: where it is not one JSON object.
    """
    try:
        document = parse(raw)
    except Doubtful as refused:
        raise Invalid("$", f"{refused.detail} ({refused.reason})", "send one JSON object") from None
    if not isinstance(document, dict):
        raise Invalid("$", "must be a JSON object", "send the policy document itself")
    return document


@_uncollected()
def compile_document(document: Mapping[str, Any]) -> Policy:
    """Validate and index a policy document. Unknown members pass, and do not count.

    Raises:
        Invalid: with the JSON path (`$.grants[3].max_trust`) and the mend.
    """
    root = Fields(document, "$")
    root.choice("schema_version", ("v1",), "v1")
    auth, rules, session = root.object("auth"), root.object("policy"), root.object("session")
    rules.choice("enforce_on", ("call_tool",))
    headers, auth_mode = _identity_headers(auth, session), _auth_mode(auth)
    oauth = _oauth(auth, headers) if auth_mode == "oauth" else None
    staleness = rules.duration("max_staleness")
    generated_at = root.instant("generated_at")
    if staleness and not generated_at:
        raise Invalid("$.generated_at", "is needed with policy.max_staleness", "set it")
    tools, namespace = _tools(root), root.object("server").text("namespace")
    grants, sessions = compile_grants(root, namespace), compile_sessions(root, namespace)
    # The digests last: what is wrong in particular says more than that they do not fit.
    facts = _facts(root, _check_digests(document), headers, sets_identity=oauth is not None)
    for name in ("max_lifetime", "idle_timeout"):
        session.duration(name)
    return Policy(
        facts=facts,
        auth_mode=auth_mode,
        headers=headers,
        watched=headers.all | {oauth.header} if oauth else headers.all,
        trusted_peers=tuple(map(ipaddress.ip_network, networks(auth, "trusted_peers"))),
        observe=facts.mode == "observe",
        default=Effect(rules.choice("default_decision", DECISIONS, "deny")),
        unknown_methods=Effect(rules.choice("unknown_methods", DECISIONS, "allow")),
        guard_required=rules.choice("side_effect_guard", GUARDS, "whenSet") == "required",
        max_staleness=parse_duration(staleness, "") if staleness else NEVER,
        session_required=session.flag("required"),
        tools=tools,
        grants=grants,
        sessions=sessions,
        generated_at=parse_instant(generated_at, "") if generated_at else 0.0,
        oauth=oauth,
    )


def _facts(
    root: Fields, revision: str, headers: IdentityHeaders, *, sets_identity: bool
) -> PolicyFacts:
    server, rules = root.object("server"), root.object("policy")
    return PolicyFacts(
        server=server.required_text("name"),
        namespace=server.text("namespace"),
        cluster=server.text("cluster"),
        team_id=server.text("team_id"),
        mode=rules.choice("mode", POLICY_MODES, "allow-list"),
        version=rules.text("policy_version"),
        revision=revision,
        deny_style=DenyStyle(rules.choice("deny_style", DENY_STYLES, "jsonrpc")),
        identity_headers=(headers.human, headers.agent, headers.team, headers.session),
        sets_identity=sets_identity,
    )


def _auth_mode(auth: Fields) -> str:
    mode = auth.text("mode", "header")
    if mode == "mtls":
        raise Invalid(auth.at("mode"), f"`{mode}` is not supported yet", "use header or oauth")
    return auth.choice("mode", AUTH_MODES, "header")


def _oauth(auth: Fields, headers: IdentityHeaders) -> OAuth:
    header = header_name(auth, "token_header", TOKEN_HEADER).lower()
    if header in headers.all or header in SINGLE - {TOKEN_HEADER.lower()}:
        where = auth.at("token_header")
        raise Invalid(where, f"`{header}` has another meaning", "name a header of its own")
    jwks_url, issuer = auth.text("jwks_url"), auth.required_text("issuer_url")
    # An issuer whose keys are elsewhere is a name that is compared, never an address.
    check_key_url(jwks_url or issuer, auth.at("jwks_url" if jwks_url else "issuer_url"))
    claims = auth.object("claims").only(frozenset(_CLAIMS))
    human, agent, team, session = (
        (claims.text(name),) if claims.text(name) else usual for name, usual in _CLAIMS.items()
    )
    return OAuth(
        issuer=issuer,
        audience=auth.required_text("audience"),
        jwks_url=jwks_url,
        header=header,
        human_claims=human,
        agent_claims=agent,
        team_claims=team,
        session_claims=session,
    )


def _identity_headers(auth: Fields, session: Fields) -> IdentityHeaders:
    """Two settings name the session's header; the one that was changed counts."""
    by_auth = header_name(auth, "session_id_header", SESSION_HEADER)
    by_session = header_name(session, "header_name", SESSION_HEADER)
    changed = {by_auth, by_session} - {SESSION_HEADER}
    if len(changed) > 1:
        where = session.at("header_name")
        raise Invalid(where, f"`{by_session}` differs from auth's `{by_auth}`", "set one of them")
    headers = IdentityHeaders(
        human=header_name(auth, "human_id_header", HUMAN_HEADER).lower(),
        agent=header_name(auth, "agent_id_header", AGENT_HEADER).lower(),
        team=header_name(auth, "team_id_header", TEAM_HEADER).lower(),
        session=(changed.pop() if changed else SESSION_HEADER).lower(),
    )
    if len(headers.all) < len(("human", "agent", "team", "session")):
        raise Invalid(auth.path, "two identities come from one header", "name four headers")
    return headers


def _check_digests(document: Mapping[str, Any]) -> str:
    """The document's content digest; one that is stated must be true.

    mcp-runtime's documents state `revision` alone, which is then checked as its own gateway does.
    """
    try:
        actual = content_digest(document)
        stated = document.get("content_digest")
        if stated and stated != actual:
            mend = "render it anew, or remove `content_digest`"
            raise Invalid("$.content_digest", "does not fit the document", mend)
        revision = document.get("revision")
        if revision and not stated and revision != compatible_revision(document):
            mend = "render it anew, or remove `revision`"
            raise Invalid("$.revision", "does not fit the document", mend)
    except (AttributeError, TypeError, KeyError) as error:
        raise Invalid("$", f"has a member of the wrong type ({error})", "see the schema") from error
    return actual


def _tools(root: Fields) -> dict[str, Tool]:
    tools: dict[str, Tool] = {}
    for item in root.objects("tools"):
        name = item.required_text("name")
        if name in tools:
            raise Invalid(item.at("name"), f"second tool `{name}`", "keep one of them")
        trust = item.choice("required_trust", TRUST_LEVELS, "low")
        effect = item.choice("side_effect", SIDE_EFFECTS)
        risk = item.choice("risk_level", TRUST_LEVELS) or _derive_risk(trust, effect)
        tools[name] = Tool(RANKS[trust], effect, risk)
    return tools


def _derive_risk(trust: str, effect: str) -> str:
    """mcp-runtime's own rule for tools that declare no risk."""
    if effect == "destructive" or trust == "high":
        return "high"
    if effect == "write" or trust == "medium":
        return "medium"
    return "low" if effect == "read" else ""

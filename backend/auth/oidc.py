"""OpenID Connect: whom a provider's token stands for.

Claims that are read beside `iss`, `aud`, `exp`, `nbf`, `iat`:

    sub                  names the principal: `oidc:<sub>`
    email                counts, as `sub` does, in ADMIN_USERS and as the human who called a tool;
                         where `email_verified` is true
    sentinel_namespaces  where a user reads and governs: a list; `*` alone is everywhere
    sentinel_scopes      a list instead of a user's read and govern; the one way to `ingest`
    sentinel_servers     the only servers (`namespace/name`) whose events it may send

Users can ask for scopes themselves (`scope`), so that claim is not read: the `sentinel_…` ones
are for the provider's administrator to set.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from backend.auth.api_keys import ADMIN, SAY_NOTHING_MORE, USER
from backend.auth.key_file import bounds
from backend.auth.principal import Principal, Scope
from extauthz.core.claims import BadToken
from extauthz.core.errors import Invalid, Retryable, Unauthenticated
from extauthz.core.events import MAX_NAME_BYTES
from extauthz.core.reasons import Reason
from extauthz.core.urls import check_key_url, is_loopback_http
from extauthz.jwks import KeyRing

NAME_PREFIX: Final = "oidc:"
# OpenID Connect Core, section 2, allows 255; names are cut behind this, and nobody may
# have another's beginning.
MAX_SUBJECT_BYTES: Final = MAX_NAME_BYTES - len(NAME_PREFIX)
ALLOW_LOOPBACK: Final = "JWKS_ALLOW_LOOPBACK_HTTP"


@dataclass(frozen=True, slots=True)
class OidcRules:
    """Whose tokens count, and what they say.

    Args:
        issuer, audience: what `iss` must be, and what `aud` must be or hold; exactly.
        jwks_url: where the issuer's keys are; empty where its metadata tells.
        admins: subjects and e-mail addresses of administrators.
    """

    issuer: str
    audience: str
    jwks_url: str
    admins: frozenset[str]

    def read(self, claims: Mapping[str, Any]) -> Principal:
        """Whom the claims of a verified token name. Raises: BadToken."""
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject.isprintable() or not subject.strip():
            raise BadToken("the token names nobody (sub)")
        if len(subject.encode()) > MAX_SUBJECT_BYTES:
            raise BadToken(f"claim sub is longer than {MAX_SUBJECT_BYTES} bytes")
        claimed = claims.get("email") if claims.get("email_verified") is True else None
        email = claimed if isinstance(claimed, str) else ""
        if subject in self.admins or (email and email in self.admins):
            return Principal(NAME_PREFIX + subject, ADMIN, subject=subject, email=email)
        return _user(subject, email, claims)


def _user(subject: str, email: str, claims: Mapping[str, Any]) -> Principal:
    scopes = USER
    if "sentinel_scopes" in claims:
        listed = _texts(claims, "sentinel_scopes")
        if unknown := set(listed) - set(Scope):
            raise BadToken(f"claim sentinel_scopes names `{min(unknown)[:64]}`, which is no scope")
        scopes = frozenset(map(Scope, listed))
    namespaces = _texts(claims, "sentinel_namespaces")
    try:
        reach, origins = bounds(namespaces, _texts(claims, "sentinel_servers"), "sentinel_")
    except Invalid as error:
        raise BadToken(f"claim {error.field}: {error.problem}") from None
    name = NAME_PREFIX + subject
    return Principal(name, scopes, reach, origins, subject=subject, email=email)


def _texts(claims: Mapping[str, Any], name: str) -> list[str]:
    value = claims.get(name)
    listed = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in listed):
        raise BadToken(f"claim {name} is not a list of strings")
    return listed


def rules_of(
    issuer: str,
    audience: str,
    jwks_url: str,
    admins: Sequence[str],
    *,
    allow_loopback_http: bool,
) -> OidcRules | None:
    """The rules that settings make; None where no issuer is set.

    Raises:
        Invalid: naming the setting.
    """
    if not issuer:
        for name, value in (("OIDC_AUDIENCE", audience), ("OIDC_JWKS_URL", jwks_url)):
            if value:
                raise Invalid(name, f"`{value}` is set without OIDC_ISSUER", "set that too")
        return None
    if not audience:
        mend = "set what the provider puts into `aud` for this service"
        raise Invalid("OIDC_AUDIENCE", "is not set, and OIDC_ISSUER is", mend)
    asked, name = (jwks_url, "OIDC_JWKS_URL") if jwks_url else (issuer, "OIDC_ISSUER")
    check_key_url(asked, name)
    if is_loopback_http(asked) and not allow_loopback_http:
        mend = f"use https, or set {ALLOW_LOOPBACK}=true for tests"
        raise Invalid(name, f"`{asked}` is not https", mend)
    return OidcRules(issuer, audience, jwks_url, frozenset(admins))


class Tokens:
    """Verifier of a provider's tokens.

    Args:
        keys: the provider's; fetched elsewhere.
        clock: seconds since the epoch.
    """

    def __init__(self, keys: KeyRing[Principal], clock: Callable[[], float]) -> None:
        self._keys, self._clock = keys, clock
        self._lock = threading.Lock()  # the api asks from several threads

    def verify(self, credentials: Sequence[str], source: str = "") -> Principal:
        why, away = "", False
        for credential in credentials:
            if credential.count(".") != 2 or not credential.isascii():
                continue  # an API key
            with self._lock:
                verifier = self._keys.look()
                found = verifier.verify(credential, self._clock()) if verifier else None
            if isinstance(found, Principal):
                return found
            if found is not None:
                why = found.detail
                away = away or found.reason is Reason.OAUTH_PROVIDER_UNAVAILABLE
        if away:
            raise Retryable("the keys of the identity provider are not at hand; try again later")
        raise Unauthenticated(f"{why}; sign in again" if why else SAY_NOTHING_MORE)

"""Who calls: identity from trusted headers, or from a verified token."""

import ipaddress
from functools import lru_cache

from msgspec.structs import replace

from extauthz.core.model import AGENT_HEADER, HUMAN_HEADER, SESSION_HEADER, TEAM_HEADER
from extauthz.core.policy import IdentityHeaders, OAuth, Policy
from extauthz.core.reasons import Reason
from extauthz.core.request import NOBODY, Identity
from extauthz.core.tokens import TokenRefusal, TokenVerifier

# What is looked for while there is no policy that says otherwise.
DEFAULT_HEADERS = IdentityHeaders(
    *(name.lower() for name in (HUMAN_HEADER, AGENT_HEADER, TEAM_HEADER, SESSION_HEADER))
)
DEFAULT_WATCHED = DEFAULT_HEADERS.all


def identify(policy: Policy, headers: dict[str, str]) -> Identity:
    """Take identity from the headers that the policy names; mode `none` knows nobody.

    Values compare exactly, so nothing is trimmed or folded here.
    """
    if policy.auth_mode != "header":
        return NOBODY
    names = policy.headers
    return Identity(
        human_id=headers.get(names.human, ""),
        agent_id=headers.get(names.agent, ""),
        team_id=headers.get(names.team, ""),
        session_id=headers.get(names.session, ""),
    )


def authenticate(
    policy: Policy,
    oauth: OAuth,
    tokens: TokenVerifier[Identity] | None,
    headers: dict[str, str],
    now: float,
) -> Identity | TokenRefusal:
    """Take identity from the bearer token alone (row 2b); no header is believed but one.

    A header may name the session where the token does not: it only counts when it is the
    subject's own (rows 5, 5a).

    Args:
        tokens: None where this process has no keys to verify by.
        now: seconds since the epoch.
    """
    token = bearer_token(oauth, headers)
    if not token:
        detail = f"send `{oauth.header}: Bearer <token>`"
        return TokenRefusal(Reason.MISSING_BEARER_TOKEN, detail)
    if tokens is None:
        detail = "only a running decision point has the provider's keys"
        return TokenRefusal(Reason.OAUTH_PROVIDER_UNAVAILABLE, detail)
    found = tokens.verify(token, now)
    if isinstance(found, Identity) and not found.session_id:
        session_id = headers.get(policy.headers.session)
        return replace(found, session_id=session_id) if session_id else found
    return found


def bearer_token(oauth: OAuth, headers: dict[str, str]) -> str:
    """The token as sent; empty where there is none.

    Authorization needs the scheme Bearer, in any case (RFC 9110, section 11.1); in a header of
    its own the token may stand alone.
    """
    value = headers.get(oauth.header, "").strip(" \t")
    scheme, _, token = value.partition(" ")
    if scheme.lower() == "bearer":
        return token.strip(" \t")
    return "" if oauth.header == "authorization" else value


def is_trusted_peer(policy: Policy, peer: str) -> bool:
    """True where the direct peer may speak for others (row 2a)."""
    if policy.auth_mode != "header" or not policy.trusted_peers:
        return True
    address = _address(peer)
    return address is not None and any(address in network for network in policy.trusted_peers)


def believes_anybody(policy: Policy) -> bool:
    """Whether every peer may say who calls: whoever reaches the gate can be anybody."""
    return policy.auth_mode == "header" and not policy.trusted_peers


@lru_cache(maxsize=1024)
def _address(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address

"""Who calls: identity from trusted headers."""

import ipaddress
from functools import lru_cache

from extauthz.core.policy import IdentityHeaders, Policy
from extauthz.core.request import NOBODY, Identity

# What is looked for while there is no policy that says otherwise.
DEFAULT_HEADERS = IdentityHeaders(
    "x-mcp-human-id", "x-mcp-agent-id", "x-mcp-team-id", "x-mcp-agent-session"
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


def is_trusted_peer(policy: Policy, peer: str) -> bool:
    """True where the direct peer may speak for others (row 2a)."""
    if not policy.trusted_peers or policy.auth_mode != "header":
        return True
    address = _address(peer)
    return address is not None and any(address in network for network in policy.trusted_peers)


@lru_cache(maxsize=1024)
def _address(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address

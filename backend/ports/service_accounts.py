"""What a cluster publishes about its service accounts."""

from collections.abc import Sequence
from typing import Protocol

from extauthz.core.accounts import Claim


class ServiceAccounts(Protocol):
    """Asked in the background, never for a request. Raises, everywhere: SentinelError."""

    def issuer(self) -> str:
        """What the accounts' tokens name as their issuer."""

    def keys(self) -> object:
        """The keys that sign them, as a JWK Set."""

    def claims(self) -> Sequence[Claim]:
        """Of all MCPServers, which accounts each names."""

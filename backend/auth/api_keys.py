"""API keys: kept as SHA-256, compared in constant time."""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from backend.auth.principal import Component, Principal, Scope
from extauthz.core.errors import Invalid, Unauthenticated

ADMIN: Final = frozenset({Scope.READ, Scope.GOVERN, Scope.OPERATE})
USER: Final = frozenset({Scope.READ, Scope.GOVERN})
NOWHERE: Final[frozenset[str]] = frozenset()
LISTED_PREFIX: Final = "key-"  # names of the keys in plain lists begin so
SAY_NOTHING_MORE: Final = "no valid credential; send `x-api-key` or `Authorization: Bearer`"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key's digest and whom it stands for."""

    digest: bytes
    principal: Principal


class ApiKeys:
    """Verifier over a fixed set of keys; without any, it lets nobody in.

    Raises:
        Invalid: the same key stands for two principals.
    """

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys: dict[bytes, ApiKey] = {}
        for key in keys:
            other = self._keys.setdefault(key.digest, key)
            if other is not key:
                names = f"`{other.principal.name}` and `{key.principal.name}`"
                raise Invalid("API_KEYS_FILE", f"{names} have the same key", "give each its own")

    def verify(self, credentials: Sequence[str], source: str = "") -> Principal:
        for credential in credentials:
            digest = digest_of(credential)
            # Nobody can choose a digest, so looking one up tells nothing of the others.
            found = self._keys.get(digest)
            if found is not None and hmac.compare_digest(found.digest, digest):
                return found.principal
        raise Unauthenticated(SAY_NOTHING_MORE)


class Anyone:
    """Verifier for `AUTH=off`: everybody may do everything."""

    def verify(self, credentials: Sequence[str], source: str = "") -> Principal:
        return Principal("anonymous", frozenset(Scope), component=Component.API)


def from_lists(
    api_keys: Sequence[str], admin_keys: Sequence[str], ingest_keys: Sequence[str]
) -> list[ApiKey]:
    """The plain lists of the environment.

    Every API key is admin while there are no admin keys; else those in `admin_keys`
    are, listed in `api_keys` too or not. Without `ingest_keys`, API keys may send events.
    """
    scopes: dict[str, frozenset[Scope]] = {}
    admins = set(admin_keys or api_keys)
    for key in (*api_keys, *admin_keys):
        scopes[key] = ADMIN if key in admins else USER
    for key in ingest_keys or api_keys:
        scopes[key] = scopes.get(key, frozenset()) | {Scope.INGEST}
    return [
        ApiKey(
            digest_of(key),
            Principal(
                f"{LISTED_PREFIX}{digest_of(key).hex()[:12]}",
                reach,
                # A plain list names no namespaces: a user key without any reaches none.
                None if reach - {Scope.INGEST} in (ADMIN, frozenset()) else NOWHERE,
            ),
        )
        for key, reach in scopes.items()
    ]


def digest_of(key: str) -> bytes:
    """SHA-256: keys are random, not passwords, so a plain hash cannot be searched."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()

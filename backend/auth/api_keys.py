"""API keys: kept as SHA-256, compared in constant time."""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from backend.auth.principal import Principal, Scope
from extauthz.core.errors import Unauthenticated

ADMIN: Final = frozenset({Scope.READ, Scope.GOVERN, Scope.OPERATE})
USER: Final = frozenset({Scope.READ, Scope.GOVERN})
NOWHERE: Final[frozenset[str]] = frozenset()
SAY_NOTHING_MORE: Final = "no valid credential; send `x-api-key` or `Authorization: Bearer`"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key's digest and whom it stands for."""

    digest: bytes
    principal: Principal


class ApiKeys:
    """Verifier over a fixed set of keys; without any, it lets nobody in."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = tuple(keys)

    def verify(self, credentials: Sequence[str]) -> Principal:
        for credential in credentials:
            digest = _digest(credential)
            # Every key is compared, so that the time does not tell which one was close.
            matches = [k for k in self._keys if hmac.compare_digest(k.digest, digest)]
            if matches:
                return matches[0].principal
        raise Unauthenticated(SAY_NOTHING_MORE)


class Anyone:
    """Verifier for `AUTH=off`: everybody may do everything."""

    def verify(self, credentials: Sequence[str]) -> Principal:
        return Principal("anonymous", frozenset(Scope))


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
            _digest(key),
            Principal(
                f"key-{_digest(key).hex()[:12]}",
                reach,
                # A plain list names no namespaces: a user key without any reaches none.
                None if reach - {Scope.INGEST} in (ADMIN, frozenset()) else NOWHERE,
            ),
        )
        for key, reach in scopes.items()
    ]


def _digest(key: str) -> bytes:
    # Keys are random, not passwords: a plain hash cannot be searched.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()

"""Bearer tokens: what a signed JWT says, once it is verified (RFC 8725, RFC 9068).

Pure: keys and the time are passed in, nothing is fetched here.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import jwt
from jwt import PyJWK
from jwt.api_jws import PyJWS

from extauthz.core.canonical import canonical, digest
from extauthz.core.claims import BadToken
from extauthz.core.errors import Invalid
from extauthz.core.policy import NEVER
from extauthz.core.reasons import Reason
from extauthz.core.strictjson import Doubtful, parse

SKEW_SECONDS: Final = 60.0  # how far the provider's clock may be from ours
MAX_TOKEN_BYTES: Final = 16 * 1024
MAX_KEYS: Final = 100
MAX_VERIFIED: Final = 10_000  # tokens remembered; then the oldest is forgotten
MIN_RSA_BITS: Final = 2048  # RFC 7518, section 3.3

# The allow-list, with the key (type, curve) that each algorithm takes: no `none`, no HMAC.
ALGORITHMS: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", "")),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
# Other signed JWTs of the same issuer (logout, DPoP proof) say in `typ` that they are no token.
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt", "application/jwt"})
_PRIVATE: Final = frozenset({"d", "k"})  # members of private and symmetric keys
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_JWS: Final = PyJWS()

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class TokenRules(Protocol[T_co]):
    """Whose tokens count, and what they say."""

    @property
    def issuer(self) -> str:
        """What `iss` must be, exactly."""

    @property
    def audience(self) -> str:
        """What `aud` must be or hold, exactly."""

    def read(self, claims: Mapping[str, Any]) -> T_co:
        """What the claims of a verified token say. Raises: BadToken."""


@dataclass(frozen=True, slots=True)
class TokenRefusal:
    """Why a token names nobody (row 2b).

    Args:
        reason: missing_bearer_token, invalid_token or oauth_provider_unavailable.
        detail: in words for the caller; never quotes the token.
    """

    reason: Reason
    detail: str


class KeySet:
    """A provider's public keys: those that may sign tokens, ready for use.

    Args:
        document: a JWK Set (RFC 7517, section 5), parsed. Keys of other kinds, private ones
            and ones for other uses are left out.

    Raises:
        Invalid: it is no JWK Set, or holds no usable key.
    """

    __slots__ = ("_by_algorithm", "_by_id", "digest", "size")

    def __init__(self, document: object) -> None:
        listed = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(listed, list):
            raise Invalid("keys", "is not a list", "serve a JWK Set (RFC 7517)")
        if len(listed) > MAX_KEYS:
            raise Invalid("keys", f"holds {len(listed)} keys", f"serve at most {MAX_KEYS}")
        usable: list[bytes] = []
        self._by_id: dict[tuple[str, str], list[PyJWK]] = {}
        self._by_algorithm: dict[str, list[PyJWK]] = {}
        for jwk in listed:
            found = _usable(jwk)
            if found:
                usable.append(canonical(jwk))
            for algorithm, key in found.items():
                self._by_algorithm.setdefault(algorithm, []).append(key)
                self._by_id.setdefault((str(jwk.get("kid")), algorithm), []).append(key)
        if not usable:
            mend = f"publish a public key for one of {', '.join(ALGORITHMS)}"
            raise Invalid("keys", "holds no key that can verify tokens", mend)
        self.size = len(usable)
        self.digest = digest(b"\n".join(sorted(usable)))

    def find(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        """The one key that fits; None where there is none, or several.

        Args:
            key_id: the token's `kid`; None where it names none.
            algorithm: one of `ALGORITHMS`.
        """
        if key_id is None:
            keys = self._by_algorithm.get(algorithm, ())
        else:
            keys = self._by_id.get((key_id, algorithm), ())
        return keys[0] if len(keys) == 1 else None


def _usable(jwk: object) -> dict[str, PyJWK]:
    """The key for each algorithm that it fits; empty where it is not for verifying tokens."""
    if not isinstance(jwk, dict) or _PRIVATE & jwk.keys() or jwk.get("use", "sig") != "sig":
        return {}
    uses = jwk.get("key_ops", ["verify"])
    if not isinstance(uses, list) or "verify" not in uses:
        return {}
    if "kid" in jwk and not isinstance(jwk["kid"], str):
        return {}
    found: dict[str, PyJWK] = {}
    for algorithm, (kind, curve) in ALGORITHMS.items():
        fits = jwk.get("kty") == kind and jwk.get("crv", "") == curve
        if not fits or jwk.get("alg", algorithm) != algorithm:
            continue
        try:
            key = PyJWK(jwk, algorithm)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
            continue
        if kind != "RSA" or key.key.key_size >= MIN_RSA_BITS:
            found[algorithm] = key
    return found


@dataclass(frozen=True, slots=True)
class _Verified(Generic[T]):
    """What a verified token says. `expires_at`: with the skew, seconds since the epoch."""

    said: T
    expires_at: float


def _ignore() -> None:
    pass


class TokenVerifier(Generic[T]):
    """Verifies tokens by one key set; a new key set takes a new verifier, and so no old answers.

    Args:
        rules: whose tokens count, and what is read from them.
        keys: the provider's; None where none were fetched yet.
        usable_until: seconds since the epoch at which the keys are too old to be believed.
        unknown_key: called where a token names a key that is not in the set; must not block.
    """

    __slots__ = ("_unknown_key", "_verified", "keys", "rules", "usable_until")

    def __init__(
        self,
        rules: TokenRules[T],
        keys: KeySet | None,
        *,
        usable_until: float = NEVER,
        unknown_key: Callable[[], None] = _ignore,
    ) -> None:
        self.rules, self.keys, self.usable_until = rules, keys, usable_until
        self._unknown_key = unknown_key
        self._verified: dict[bytes, _Verified[T]] = {}  # by the token's SHA-256

    def verify(self, token: str, now: float) -> T | TokenRefusal:
        """What the token says. Never raises for what callers send.

        Args:
            token: as it came, without its scheme.
            now: seconds since the epoch.
        """
        if len(token) > MAX_TOKEN_BYTES:
            detail = f"the token is longer than {MAX_TOKEN_BYTES} bytes"
            return TokenRefusal(Reason.INVALID_TOKEN, detail)
        raw = token.encode()
        known = hashlib.sha256(raw).digest()
        found = self._verified.get(known)
        if found is not None and now < found.expires_at and now < self.usable_until:
            return found.said
        try:
            found = self._check(token, raw, now)
        except BadToken as bad:
            self._verified.pop(known, None)
            return TokenRefusal(Reason.INVALID_TOKEN, str(bad))
        if found is None:
            detail = "the provider's keys could not be fetched"
            return TokenRefusal(Reason.OAUTH_PROVIDER_UNAVAILABLE, detail)
        while len(self._verified) >= MAX_VERIFIED:
            self._verified.pop(next(iter(self._verified)))
        self._verified[known] = found
        return found.said

    def _check(self, token: str, raw: bytes, now: float) -> _Verified[T] | None:
        """All of it, form first.

        Returns:
            None where no keys are at hand.

        Raises:
            BadToken: it is not a valid token.
        """
        header = _header(token)
        algorithm, kind = header.get("alg"), header.get("typ", "")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise BadToken(f"the token's algorithm is not one of {', '.join(ALGORITHMS)}")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise BadToken("the JWT is not an access token (typ)")
        if self.keys is None or now >= self.usable_until:
            return None
        # Only what was fetched counts: `jku`, `x5u`, `jwk` and the like are never looked at.
        key_id = header.get("kid")
        if not isinstance(key_id, str | None):
            raise BadToken("the token's kid is not a string")
        key = self.keys.find(key_id, algorithm)
        if key is None:
            self._unknown_key()
            raise BadToken("the token is signed with a key that the provider does not publish")
        try:
            payload = _JWS.decode_complete(raw, key, algorithms=[algorithm])["payload"]
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise BadToken("the token's signature is not valid") from None
        return self._read(payload, now)

    def _read(self, payload: bytes, now: float) -> _Verified[T]:
        """The claims of a token whose signature is valid."""
        try:
            claims = parse(payload)
        except Doubtful:
            claims = None
        if not isinstance(claims, dict):
            raise BadToken("the token's claims are not one JSON object")
        if claims.get("iss") != self.rules.issuer:
            raise BadToken("the token is from another issuer")
        audience = claims.get("aud")
        if self.rules.audience not in (audience if isinstance(audience, list) else [audience]):
            raise BadToken("the token is for another audience")
        expires_at = _instant(claims, "exp")
        if expires_at is None:
            raise BadToken("the token has no expiry (exp)")
        if now >= expires_at + SKEW_SECONDS:
            raise BadToken("the token has expired")
        for name in ("nbf", "iat"):
            since = _instant(claims, name)
            if since is not None and now < since - SKEW_SECONDS:
                raise BadToken(f"the token is not valid yet ({name})")
        return _Verified(self.rules.read(claims), expires_at + SKEW_SECONDS)


def _header(token: str) -> dict[str, Any]:
    """The header of what has the form of a signed JWT; a member that stands twice is refused."""
    if not _COMPACT.fullmatch(token):
        raise BadToken("the token is not a signed JWT")
    encoded = token.partition(".")[0]
    try:
        header = parse(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (Doubtful, ValueError):
        header = None
    if not isinstance(header, dict):
        raise BadToken("the token is not a signed JWT")
    return header


def _instant(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519, section 2); None where the claim is absent."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadToken(f"claim {name} is not a number")
    return value

"""Signing in at an OpenID Connect provider: authorization code flow with PKCE.

Sources: OpenID Connect Core 1.0, section 3.1; RFC 7636 (PKCE); RFC 9207 is for later.
"""

import secrets
import threading
from dataclasses import dataclass
from typing import Any, Final

import orjson
import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

SECONDS: Final = 10.0
MOST_BYTES: Final = 1 << 20  # of metadata and keys
_SECRET_BYTES: Final = 32
_LEEWAY_SECONDS: Final = 60
# Signatures alone: no `none`, and nothing that a public key could be the secret of.
_ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "EdDSA",
)


class SignInFailed(Exception):
    """The provider did not say who somebody is. The message is for people."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a browser keeps while it is at the provider's."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> "Attempt":
        made = [secrets.token_urlsafe(_SECRET_BYTES) for _ in range(3)]
        return cls(*made)


class Provider:
    """One provider and what the dashboard is to it.

    Args:
        redirect_uri: where it sends people back.
    """

    def __init__(
        self, issuer: str, client_id: str, client_secret: str, scopes: str, redirect_uri: str
    ) -> None:
        self._issuer, self._client_id = issuer, client_id
        self._client_secret, self._scopes = client_secret, scopes
        self._redirect_uri = redirect_uri
        self._asking = threading.Lock()
        self._metadata: dict[str, Any] = {}

    def url(self, attempt: Attempt) -> str:
        """Where to send a browser. Raises: SignInFailed."""
        metadata = self._known()
        with self._client() as client:
            url, _ = client.create_authorization_url(
                metadata["authorization_endpoint"],
                state=attempt.state,
                nonce=attempt.nonce,
                code_verifier=attempt.verifier,
            )
        return str(url)

    def token(self, attempt: Attempt, code: str) -> str:
        """The ID token for a code, looked at: signature, issuer, audience, nonce, times.

        Raises:
            SignInFailed: it is not one, or not for this attempt.
        """
        metadata = self._known()
        try:
            with self._client() as client:
                found = client.fetch_token(
                    metadata["token_endpoint"],
                    code=code,
                    code_verifier=attempt.verifier,
                    timeout=SECONDS,
                )
            text = str(found["id_token"])
            self._check(text, attempt.nonce, metadata["jwks_uri"])
        except KeyError as error:
            raise SignInFailed("the provider sent no ID token; ask for the scope openid") from error
        except (AuthlibBaseError, JoseError, requests.RequestException, ValueError) as error:
            raise SignInFailed("the provider's answer does not hold; sign in again") from error
        return text

    def _check(self, text: str, nonce: str, jwks_uri: str) -> None:
        keys = KeySet.import_key_set(_json(jwks_uri))
        token = jwt.decode(text, keys, algorithms=list(_ALGORITHMS))
        options = {
            "iss": {"essential": True, "value": self._issuer},
            "aud": {"essential": True, "value": self._client_id},
        }
        params = {"nonce": nonce, "client_id": self._client_id}
        claims = CodeIDToken(token.claims, token.header, options, params)
        claims.validate(leeway=_LEEWAY_SECONDS)

    def _client(self) -> OAuth2Session:
        client = OAuth2Session(
            self._client_id,
            self._client_secret or None,
            scope=self._scopes,
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if self._client_secret else "none",
        )
        client.trust_env = False
        return client

    def _known(self) -> dict[str, Any]:
        if not self._metadata:
            # One asks; a provider that hangs must not hold the threads of everybody else.
            if not self._asking.acquire(blocking=False):
                raise SignInFailed("the provider is being asked; try again in a moment")
            try:
                self._metadata = self._ask()
            finally:
                self._asking.release()
        return self._metadata

    def _ask(self) -> dict[str, Any]:
        url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            found = _json(url)
        except (requests.RequestException, ValueError) as error:
            raise SignInFailed("the provider is away; try again") from error
        if not isinstance(found, dict) or found.get("issuer") != self._issuer:
            raise SignInFailed("the provider calls itself another issuer; mend OIDC_ISSUER")
        return found


def _json(url: str) -> Any:
    """Raises: requests.RequestException, ValueError."""
    with requests.Session() as http:
        http.trust_env = False
        response = http.get(url, timeout=SECONDS, allow_redirects=False, stream=True)
        response.raise_for_status()
        body = response.raw.read(MOST_BYTES + 1, decode_content=True)
    if len(body) > MOST_BYTES:
        raise ValueError("too large")
    return orjson.loads(body)

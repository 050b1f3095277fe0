"""A provider that people sign in at: Authlib's authorization code flow with PKCE, and ID tokens.

Who comes is signed in as `person` at once; where a real one asks for a password, this one does not.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import AuthorizationCodeMixin
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import UserInfo
from authlib.oidc.core.grants import OpenIDCode
from flask import Flask, Response
from joserfc.jwk import RSAKey

from tests.tools.oidc_provider import SECRET, Provider

CLIENT = "dashboard"


@dataclass
class Code(AuthorizationCodeMixin):
    """A code that a browser takes from the provider to the dashboard."""

    code: str
    redirect_uri: str
    scope: str
    nonce: str
    code_challenge: str
    code_challenge_method: str

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str:
        return self.nonce

    def get_auth_time(self) -> int:
        return int(time.time())

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


class Person(dict[str, Any]):
    """Claims of whoever signs in."""

    def get_user_id(self) -> str:
        return str(self["sub"])


@dataclass(frozen=True)
class Registered:
    """The dashboard, as the provider knows it.

    Args:
        redirect_uri: the only one that it may name.
    """

    redirect_uri: str
    claims: Mapping[str, Any] = field(default_factory=dict)  # of its access tokens

    def get_client_id(self) -> str:
        return CLIENT

    def get_default_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri == self.redirect_uri

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_basic"

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


@dataclass
class SignInProvider(Provider):
    """The server.

    Attributes:
        person: claims of whoever signs in.
        changed: claims that its ID tokens carry in place of the right ones.
    """

    person: dict[str, Any] = field(default_factory=lambda: {"sub": "alice"})
    changed: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)

    def register(self, redirect_uri: str) -> None:
        """Let the dashboard send people here."""
        self.clients[CLIENT] = Registered(redirect_uri)  # type: ignore[assignment]

    def _described(self) -> dict[str, Any]:
        authorize = {"authorization_endpoint": f"{self.issuer}/authorize"}
        return super()._described() | authorize | {"response_types_supported": ["code"]}

    def _serve_more(self, app: Flask, server: AuthorizationServer) -> None:
        provider = self

        class Grant(AuthorizationCodeGrant):
            """Codes in memory, each good for once."""

            def save_authorization_code(self, code: str, request: Any) -> None:
                sent = request.payload.data
                provider.codes[code] = Code(
                    code,
                    sent["redirect_uri"],
                    sent["scope"],
                    sent.get("nonce", ""),
                    sent.get("code_challenge", ""),
                    sent.get("code_challenge_method", ""),
                )

            def query_authorization_code(self, code: str, client: Registered) -> Code | None:
                return provider.codes.get(code)

            def delete_authorization_code(self, authorization_code: Code) -> None:
                provider.codes.pop(authorization_code.code, None)

            def authenticate_user(self, authorization_code: Code) -> Person:
                return Person(provider.person)

        class Tokens(OpenIDCode):
            """ID tokens by the provider's key."""

            def exists_nonce(self, nonce: str, request: Any) -> bool:
                return False

            def resolve_client_private_key(self, client: Registered) -> RSAKey:
                return provider.signing

            def get_client_algorithm(self, client: Registered) -> str:
                return "RS256"

            def get_client_claims(self, client: Registered) -> dict[str, Any]:
                now = int(time.time())
                return {"iss": provider.issuer, "aud": CLIENT, "iat": now, "exp": now + 3600}

            def generate_user_info(self, user: dict[str, Any], scope: str) -> UserInfo:
                return UserInfo({**user, **provider.changed})

        server.register_grant(Grant, [Tokens(), CodeChallenge(required=True)])

        @app.get("/authorize")
        def authorize() -> Response:
            grant = server.get_consent_grant(end_user=self.person)
            answered: Response = server.create_authorization_response(
                grant_user=self.person, grant=grant
            )
            return answered


@contextmanager
def sign_in_provider() -> Iterator[SignInProvider]:
    """Serve on a free loopback port."""
    running = SignInProvider(CLIENT)
    try:
        yield running
    finally:
        running.stop()
